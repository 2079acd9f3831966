"""A bridge as data: `bridge.json` says what it is, `bridge.safetensors` holds its map, and loading trusts neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import numpy as np

from embedder_heads.errors import HeadInvalid
from embedder_heads.kinds import Floats
from embedder_heads.manifest import Fields, read_manifest, write_manifest
from embedder_heads.metric import Metric, metrics_document, read_metrics
from embedder_heads.names import check_name
from embedder_heads.tensor_file import pack_tensors, read_tensors

MANIFEST = "bridge.json"
TENSORS = "bridge.safetensors"
SCHEMA = 1

_MAX_TENSOR_BYTES = 1 << 30


class BridgeMethod(StrEnum):
    """How a map was found."""

    RIDGE = "ridge"
    PROCRUSTES = "procrustes"


@dataclass(frozen=True, slots=True)
class BridgeManifest:
    """What a bridge is, beside its map.

    Attributes:
        name: the bridge's name.
        method: how it was found.
        source_digest: the space whose vectors it takes, 64 hex digits.
        target_digest: the space whose vectors it gives, 64 hex digits.
        source_dim: length of the vectors that it takes.
        target_dim: length of the vectors that it gives.
        data_digest: SHA-256 of the pairs that it learned from, 64 hex digits.
        metrics: what is lost by it, measured on pairs that the measured map did not learn from.
        training: how it was found, in plain words and numbers.
        created: when, ISO 8601 in UTC.
        version: its version, from 1; 0 until it is published.
    """

    name: str
    method: BridgeMethod
    source_digest: str
    target_digest: str
    source_dim: int
    target_dim: int
    data_digest: str
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    training: Mapping[str, str | int | float] = field(default_factory=dict)
    created: str = ""
    version: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.source_dim < 1 or self.target_dim < 1:
            raise HeadInvalid(
                f"dims {self.source_dim} and {self.target_dim}; a bridge's vectors have one number at least"
            )
        for digest in (self.source_digest, self.target_digest, self.data_digest):
            if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
                raise HeadInvalid(f"digest {digest!r} is not 64 hex digits")
        if self.source_digest == self.target_digest:
            raise HeadInvalid("a bridge leads from one space to another, and both ends are the same")

    @property
    def reference(self) -> str:
        """How it is named: `name@version`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True, eq=False)
class Bridge:
    """A bridge that has been checked.

    Attributes:
        manifest: what it is.
        weight: (target dim, source dim) float32.
        bias: (target dim,) float32.
    """

    manifest: BridgeManifest
    weight: Floats
    bias: Floats

    def __post_init__(self) -> None:
        shape = (self.manifest.target_dim, self.manifest.source_dim)
        for name, tensor, wanted in (("weight", self.weight, shape), ("bias", self.bias, shape[:1])):
            if tensor.dtype != np.float32 or tensor.shape != wanted:
                raise HeadInvalid(
                    f"tensor {name!r} is {tensor.dtype} of shape {tensor.shape}; it should be float32 {wanted}"
                )
            if not np.isfinite(tensor).all():
                raise HeadInvalid(f"tensor {name!r} holds NaN or infinity")

    def apply(self, vectors: Floats) -> Floats:
        """Map (n, source dim) float32 unit vectors to (n, target dim) float32 of L2 norm 1; a row of zeros stays one."""
        mapped = vectors @ self.weight.T
        mapped += self.bias
        norms = np.linalg.norm(mapped, axis=1, keepdims=True)
        unit: Floats = mapped / np.maximum(norms, np.float32(1e-12))
        unit[~vectors.any(axis=1)] = 0.0  # a failed item's row is no vector, and gets no score that means something
        return unit


def save_bridge(bridge: Bridge, folder: Path, *, name: str, version: int) -> Bridge:
    """Write a bridge's two files into an existing folder, under a name and version; returns it as written."""
    created = bridge.manifest.created or datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(bridge.manifest, name=name, version=version, created=created)
    payload, digest = pack_tensors({"weight": bridge.weight, "bias": bridge.bias})
    (folder / TENSORS).write_bytes(payload)
    write_manifest(folder / MANIFEST, _to_document(manifest, digest))
    return replace(bridge, manifest=manifest)


def load_bridge(folder: Path) -> Bridge:
    """Read and check a bridge's two files; its map is in memory and read-only.

    Raises:
        HeadInvalid: a file is missing, a link, too large, or anything in it is not what it should be.
    """
    manifest, tensors_digest = _from_document(read_manifest(folder / MANIFEST, schema=SCHEMA, error=HeadInvalid))
    tensors = read_tensors(folder / TENSORS, digest=tensors_digest, manifest=MANIFEST, max_bytes=_MAX_TENSOR_BYTES)
    if set(tensors) != {"weight", "bias"}:
        raise HeadInvalid(f"a bridge has the tensors bias and weight, and this one has {sorted(tensors)}")
    return Bridge(manifest, tensors["weight"], tensors["bias"])


def _to_document(manifest: BridgeManifest, tensors_digest: str) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "name": manifest.name,
        "version": manifest.version,
        "method": manifest.method,
        "source_digest": manifest.source_digest,
        "target_digest": manifest.target_digest,
        "source_dim": manifest.source_dim,
        "target_dim": manifest.target_dim,
        "data_digest": manifest.data_digest,
        "tensors_digest": tensors_digest,
        "metrics": metrics_document(manifest.metrics),
        "training": dict(manifest.training),
        "created": manifest.created,
    }


def _from_document(fields: Fields) -> tuple[BridgeManifest, str]:
    manifest = BridgeManifest(
        name=fields.text("name"),
        version=fields.integer("version"),
        method=fields.choice("method", BridgeMethod),
        source_digest=fields.text("source_digest"),
        target_digest=fields.text("target_digest"),
        source_dim=fields.integer("source_dim"),
        target_dim=fields.integer("target_dim"),
        data_digest=fields.text("data_digest"),
        metrics=MappingProxyType(read_metrics(fields)),
        training=MappingProxyType(fields.scalars("training")),
        created=fields.text("created"),
    )
    tensors_digest = fields.text("tensors_digest")
    fields.done()
    return manifest, tensors_digest
