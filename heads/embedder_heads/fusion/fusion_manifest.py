"""What a trained fusion is, beside its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedder_heads.errors import HeadInvalid
from embedder_heads.manifest import Fields
from embedder_heads.metric import Metric, metrics_document, read_metrics
from embedder_heads.names import check_name

_MAX_FIELDS = 256


@dataclass(frozen=True, slots=True)
class FusionManifest:
    """What a fusion is, beside its tensors.

    Attributes:
        name: the fusion's name.
        space_digest: the embedding space that it was trained in, 64 hex digits.
        dim: length of the vectors that it takes and gives.
        fields: the field names that it knows, in the order of its tensors' rows.
        data_digest: SHA-256 of what it learned from, 64 hex digits.
        metrics: measured qualities by name.
        training: how it was trained, in plain words and numbers.
        created: when, ISO 8601 in UTC.
        version: its version, from 1; 0 until it is published.
    """

    name: str
    space_digest: str
    dim: int
    fields: tuple[str, ...]
    data_digest: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    training: Mapping[str, str | int | float] = field(default_factory=dict)
    created: str = ""
    version: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.dim < 1:
            raise HeadInvalid(f"dim={self.dim}; a fusion takes vectors of at least one number")
        if not 1 <= len(set(self.fields)) == len(self.fields) <= _MAX_FIELDS:
            raise HeadInvalid(f"a fusion knows 1 to {_MAX_FIELDS} field names, none twice; this one has {self.fields}")
        for digest in (self.space_digest, self.data_digest):
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise HeadInvalid(f"digest {digest!r} is not 64 hex digits")


def to_document(manifest: FusionManifest, *, tensors_digest: str) -> dict[str, object]:
    """Return a manifest as JSON holds it, without its schema number."""
    return {
        "name": manifest.name,
        "version": manifest.version,
        "space_digest": manifest.space_digest,
        "dim": manifest.dim,
        "fields": list(manifest.fields),
        "data_digest": manifest.data_digest,
        "tensors_digest": tensors_digest,
        "metrics": metrics_document(manifest.metrics),
        "training": dict(manifest.training),
        "created": manifest.created,
    }


def from_document(fields: Fields) -> tuple[FusionManifest, str]:
    """Read a manifest and the digest of its tensors; raises the readers' error type."""
    manifest = FusionManifest(
        name=fields.text("name"),
        version=fields.integer("version"),
        space_digest=fields.text("space_digest"),
        dim=fields.integer("dim"),
        fields=fields.texts("fields"),
        data_digest=fields.text("data_digest"),
        metrics=read_metrics(fields),
        training=fields.scalars("training"),
        created=fields.text("created"),
    )
    tensors_digest = fields.text("tensors_digest")
    fields.done()
    return manifest, tensors_digest
