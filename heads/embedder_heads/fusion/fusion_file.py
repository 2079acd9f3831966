"""A fusion as data: `fusion.json` says what it is, `fusion.safetensors` holds its tensors, and loading trusts neither."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from embedder_heads.errors import HeadInvalid
from embedder_heads.fusion.attention import AttentionFusion
from embedder_heads.fusion.fusion_manifest import FusionManifest, from_document, to_document
from embedder_heads.kinds import Floats
from embedder_heads.manifest import read_manifest, write_manifest

MANIFEST = "fusion.json"
TENSORS = "fusion.safetensors"
SCHEMA = 1

_MAX_TENSOR_BYTES = 256 << 20


def make_fusion(manifest: FusionManifest, tensors: Mapping[str, Floats]) -> AttentionFusion:
    """Join a manifest and tensors, which are checked; raises HeadInvalid where they don't fit."""
    payload = _dump(tensors)
    return AttentionFusion(manifest, MappingProxyType(dict(tensors)), hashlib.sha256(payload).hexdigest())


def save_fusion(fusion: AttentionFusion, folder: Path, *, name: str, version: int) -> AttentionFusion:
    """Write a fusion's two files into an existing folder, under a name and version; returns it as written."""
    created = fusion.manifest.created or datetime.now(UTC).isoformat(timespec="seconds")
    manifest = replace(fusion.manifest, name=name, version=version, created=created)
    (folder / TENSORS).write_bytes(_dump(fusion.tensors))
    write_manifest(folder / MANIFEST, {"schema": SCHEMA, **to_document(manifest, tensors_digest=fusion.tensors_digest)})
    return replace(fusion, manifest=manifest)


def load_fusion(folder: Path) -> AttentionFusion:
    """Read and check a fusion's two files; its tensors are in memory and read-only.

    Raises:
        HeadInvalid: a file is missing, a link, too large, or anything in it is not what it should be.
    """
    manifest, tensors_digest = from_document(read_manifest(folder / MANIFEST, schema=SCHEMA, error=HeadInvalid))
    path = folder / TENSORS
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_TENSOR_BYTES:
            raise HeadInvalid(f"{TENSORS} is a link or larger than {_MAX_TENSOR_BYTES} bytes")
        payload = path.read_bytes()
    except OSError as error:
        raise HeadInvalid(f"{TENSORS} can't be read: {error.strerror}") from error
    if hashlib.sha256(payload).hexdigest() != tensors_digest:
        raise HeadInvalid(f"{TENSORS} does not have the digest that {MANIFEST} gives")
    try:
        tensors = load_tensors(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise HeadInvalid(f"{TENSORS} is not a safetensors file: {error}") from error
    for tensor in tensors.values():
        tensor.setflags(write=False)
    return AttentionFusion(manifest, MappingProxyType(tensors), tensors_digest)


def _dump(tensors: Mapping[str, Floats]) -> bytes:
    payload: bytes = dump_tensors({key: np.ascontiguousarray(value) for key, value in sorted(tensors.items())})
    return payload
