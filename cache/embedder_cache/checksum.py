"""The record checksum: multilinear hashing of a whole batch in one vectorized pass."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

_WORD_BYTES = 4
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def checksums(records: npt.NDArray[np.uint8], *, hole: slice) -> npt.NDArray[np.uint64]:
    """Compute one 64-bit checksum for each record.

    Each 32-bit word is multiplied by its own odd 64-bit weight, and the products are summed modulo 2**64. An odd weight
    makes every change of a single word, so every flipped bit, change the sum; a change of several words goes unseen
    with a chance of at most 2**-32.

    Args:
        records: (n, bytes) uint8, C-contiguous, a multiple of 4 bytes each.
        hole: the bytes that hold the checksum itself, a multiple of 4; they are left out.
    Returns:
        (n,) uint64.
    Source: Lemire & Kaser 2014, "Strongly universal string hashing is fast", MULTILINEAR.
    """
    words = records.view("<u4")  # (n, bytes / 4)
    weights, offset = _weights(words.shape[1], hole.start // _WORD_BYTES, hole.stop // _WORD_BYTES)
    sums: npt.NDArray[np.uint64] = np.einsum("ij,j->i", words, weights) + offset
    return sums


@lru_cache(maxsize=64)
def _weights(count: int, hole_start: int, hole_stop: int) -> tuple[npt.NDArray[np.uint64], np.uint64]:
    """Make the odd weights of `count` words and the offset, the same on every machine (splitmix64 of the position)."""
    with np.errstate(over="ignore"):
        state = np.arange(1, count + 2, dtype=np.uint64) * np.uint64(_GOLDEN_GAMMA)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    weights = state[:count] | np.uint64(1)
    weights[hole_start:hole_stop] = 0
    weights.flags.writeable = False
    return weights, state[count]
