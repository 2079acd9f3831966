"""A fusion as data: `fusion.json` says what it is, `fusion.safetensors` holds its tensors, and loading trusts neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

from embedder_heads.errors import HeadInvalid
from embedder_heads.fusion.attention import AttentionFusion
from embedder_heads.fusion.fusion_manifest import FusionManifest, from_document, to_document
from embedder_heads.kinds import Floats
from embedder_heads.manifest import read_manifest, write_manifest
from embedder_heads.tensor_file import pack_tensors, read_tensors

MANIFEST = "fusion.json"
TENSORS = "fusion.safetensors"
SCHEMA = 1

_MAX_TENSOR_BYTES = 256 << 20


def make_fusion(manifest: FusionManifest, tensors: Mapping[str, Floats]) -> AttentionFusion:
    """Join a manifest and tensors, which are checked; raises HeadInvalid where they don't fit."""
    _, digest = pack_tensors(tensors)
    return AttentionFusion(manifest, MappingProxyType(dict(tensors)), digest)


def save_fusion(fusion: AttentionFusion, folder: Path, *, name: str, version: int) -> AttentionFusion:
    """Write a fusion's two files into an existing folder, under a name and version; returns it as written."""
    created = fusion.manifest.created or datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(fusion.manifest, name=name, version=version, created=created)
    payload, digest = pack_tensors(fusion.tensors)
    (folder / TENSORS).write_bytes(payload)
    write_manifest(folder / MANIFEST, {"schema": SCHEMA, **to_document(manifest, tensors_digest=digest)})
    return replace(fusion, manifest=manifest)


def load_fusion(folder: Path) -> AttentionFusion:
    """Read and check a fusion's two files; its tensors are in memory and read-only.

    Raises:
        HeadInvalid: a file is missing, a link, too large, or anything in it is not what it should be.
    """
    manifest, tensors_digest = from_document(read_manifest(folder / MANIFEST, schema=SCHEMA, error=HeadInvalid))
    tensors = read_tensors(folder / TENSORS, digest=tensors_digest, manifest=MANIFEST, max_bytes=_MAX_TENSOR_BYTES)
    return AttentionFusion(manifest, MappingProxyType(tensors), tensors_digest)
