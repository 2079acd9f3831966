"""A head as data: `head.json` says what it is, `head.safetensors` holds its tensors, and loading trusts neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from embedder_heads.errors import HeadInvalid
from embedder_heads.kinds import Floats, HeadKind, Task, check_tensors
from embedder_heads.manifest import Fields, read_manifest, write_manifest
from embedder_heads.metric import Metric, metrics_document, read_metrics
from embedder_heads.names import check_name
from embedder_heads.tensor_file import pack_tensors, read_tensors

MANIFEST = "head.json"
TENSORS = "head.safetensors"
SCHEMA = 1

_MAX_TENSOR_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class HeadManifest:
    """What a head is, beside its tensors.

    Attributes:
        name: the head's name.
        version: its version, from 1; 0 until it is published.
        kind: how it computes.
        task: what its outputs mean.
        space_digest: the embedding space that it was trained in, 64 hex digits.
        dim: length of the vectors that it takes.
        labels: names of its outputs, in order.
        thresholds: per label, the score from which the label is given; a single-label head gives its best label.
        temperature: logits are divided by it before softmax or sigmoid.
        data_digest: SHA-256 of the training vectors, targets and labels, 64 hex digits.
        metrics: measured qualities by name.
        training: how it was trained, in plain words and numbers.
        created: when, ISO 8601 in UTC.
    """

    name: str
    kind: HeadKind
    task: Task
    space_digest: str
    dim: int
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    data_digest: str
    temperature: float = 1.0
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    training: Mapping[str, str | int | float] = field(default_factory=dict)
    created: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """A head that has been checked: its manifest and read-only float32 tensors fit each other."""

    manifest: HeadManifest
    tensors: Mapping[str, Floats]

    def __post_init__(self) -> None:
        check_manifest(self.manifest)
        manifest = self.manifest
        check_tensors(manifest.kind, self.tensors, sizes={"dim": manifest.dim, "labels": len(manifest.labels)})


def save_head(head: Head, folder: Path, *, name: str, version: int) -> Head:
    """Write a head's two files into an existing folder.

    Args:
        head: the head.
        folder: where `head.json` and `head.safetensors` go.
        name: the name that it gets.
        version: the version that it gets.
    Returns:
        The head as written, with name, version and time.
    """
    created = head.manifest.created or datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(head.manifest, name=check_name(name), version=version, created=created)
    payload, digest = pack_tensors(head.tensors)
    (folder / TENSORS).write_bytes(payload)
    write_manifest(folder / MANIFEST, _to_document(manifest, digest))
    return Head(manifest, head.tensors)


def load_head(folder: Path) -> Head:
    """Read and check a head's two files.

    Args:
        folder: holds `head.json` and `head.safetensors`.
    Returns:
        The head; its tensors are read-only and in memory, so the files may change afterwards.
    Raises:
        HeadInvalid: a file is missing, a link, too large, or anything in it is not what it should be.
    """
    fields = read_manifest(folder / MANIFEST, schema=SCHEMA, error=HeadInvalid)
    manifest, tensors_digest = _from_document(fields)
    tensors = read_tensors(folder / TENSORS, digest=tensors_digest, manifest=MANIFEST, max_bytes=_MAX_TENSOR_BYTES)
    return Head(manifest, MappingProxyType(tensors))


def check_manifest(manifest: HeadManifest) -> None:
    """Check that a manifest's values are possible and fit each other; raises HeadInvalid."""
    if manifest.dim < 1:
        raise HeadInvalid(f"dim={manifest.dim}; a head takes vectors of at least one number")
    if not manifest.labels or len(set(manifest.labels)) != len(manifest.labels):
        raise HeadInvalid("a head needs at least one label, and no label twice")
    if manifest.task is Task.MULTI_LABEL and len(manifest.thresholds) != len(manifest.labels):
        raise HeadInvalid(f"{len(manifest.thresholds)} thresholds for {len(manifest.labels)} labels")
    if manifest.task is not Task.MULTI_LABEL and manifest.thresholds:
        raise HeadInvalid(f"a {manifest.task} head has no thresholds")
    if not all(0.0 <= threshold <= 1.0 for threshold in manifest.thresholds):
        raise HeadInvalid("a threshold lies outside 0 to 1")
    if not 0.0 < manifest.temperature < float("inf"):
        raise HeadInvalid(f"temperature={manifest.temperature}; it is finite and above 0")
    for digest in (manifest.space_digest, manifest.data_digest):
        if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
            raise HeadInvalid(f"digest {digest!r} is not 64 hex digits")


def _to_document(manifest: HeadManifest, tensors_digest: str) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "name": manifest.name,
        "version": manifest.version,
        "kind": manifest.kind.value,
        "task": manifest.task.value,
        "space_digest": manifest.space_digest,
        "dim": manifest.dim,
        "labels": list(manifest.labels),
        "thresholds": list(manifest.thresholds),
        "temperature": manifest.temperature,
        "data_digest": manifest.data_digest,
        "tensors_digest": tensors_digest,
        "metrics": metrics_document(manifest.metrics),
        "training": dict(manifest.training),
        "created": manifest.created,
    }


def _from_document(fields: Fields) -> tuple[HeadManifest, str]:
    name = fields.text("name")
    check_name(name)
    manifest = HeadManifest(
        name=name,
        version=fields.integer("version"),
        kind=fields.choice("kind", HeadKind),
        task=fields.choice("task", Task),
        space_digest=fields.text("space_digest"),
        dim=fields.integer("dim"),
        labels=fields.texts("labels"),
        thresholds=fields.numbers("thresholds"),
        temperature=fields.number("temperature"),
        data_digest=fields.text("data_digest"),
        metrics=MappingProxyType(read_metrics(fields)),
        training=MappingProxyType(fields.scalars("training")),
        created=fields.text("created"),
    )
    tensors_digest = fields.text("tensors_digest")
    fields.done()
    return manifest, tensors_digest
