"""The tensors of a head, a fusion or a bridge on disk, under the digest that its manifest gives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as dump_tensors

from embedder_heads.errors import HeadInvalid

Tensors = Mapping[str, npt.NDArray[np.float32]]


def pack_tensors(tensors: Tensors) -> tuple[bytes, str]:
    """Return the bytes of a safetensors file, tensors by name, and their digest in hex."""
    payload: bytes = dump_tensors({key: np.ascontiguousarray(value) for key, value in sorted(tensors.items())})
    return payload, hashlib.sha256(payload).hexdigest()


def read_tensors(path: Path, *, digest: str, manifest: str, max_bytes: int) -> dict[str, npt.NDArray[np.float32]]:
    """Read and check a file of tensors; they are in memory and read-only, so the file may change afterwards.

    Args:
        path: the safetensors file.
        digest: what its bytes must have, in hex.
        manifest: name of the file that gives the digest.
        max_bytes: a larger file is refused.
    Raises:
        HeadInvalid: the file is missing, a link, too large, of another digest, or no safetensors file.
    """
    try:
        if path.is_symlink() or path.stat().st_size > max_bytes:
            raise HeadInvalid(f"{path.name} is a link or larger than {max_bytes} bytes")
        payload = path.read_bytes()
    except OSError as error:
        raise HeadInvalid(f"{path.name} can't be read: {error.strerror}") from error
    if hashlib.sha256(payload).hexdigest() != digest:
        raise HeadInvalid(f"{path.name} does not have the digest that {manifest} gives")
    try:
        tensors: dict[str, npt.NDArray[np.float32]] = load_tensors(payload)
    except (SafetensorError, ValueError, KeyError) as error:
        raise HeadInvalid(f"{path.name} is not a safetensors file: {error}") from error
    for tensor in tensors.values():
        tensor.setflags(write=False)
    return tensors
