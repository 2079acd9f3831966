"""Numbered contents: a hash and a vector that anyone can tell again from the number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedder_cache import SpaceKey, space_key
from embedder_client.content_hash import hash_texts

DIM = 96
SPACE = space_key(b"faults", bytes(32), DIM)


def numbered_hashes(numbers: Sequence[int] | npt.NDArray[np.int64]) -> bytes:
    """Give the packed content hashes of numbered texts."""
    return hash_texts(f"content {number}" for number in numbers)


def numbered_vectors(numbers: Sequence[int] | npt.NDArray[np.int64], *, dim: int = DIM) -> npt.NDArray[np.float16]:
    """Give each number's vector, (n, dim) float16; no two numbers share one."""
    columns = np.arange(dim, dtype=np.uint64)
    seeds = np.asarray(numbers, np.uint64)[:, None] * np.uint64(dim) + columns + np.uint64(1)
    mixed = (seeds * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)  # 24 bits
    return (mixed.astype(np.float32) / np.float32(1 << 23) - 1).astype(np.float16)


def space_of(name: int) -> SpaceKey:
    """Give one of several spaces of the same dim."""
    return space_key(b"faults", name.to_bytes(32, "little"), DIM)
