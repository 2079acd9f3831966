"""Which contents a sample of traffic takes: chosen by their hash, so that it is always the same ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from embedder_client.content_hash import HASH_BYTES

_ALL = 2.0**64


def sampled_rows(hashes: bytes, rate: float) -> npt.NDArray[np.intp]:
    """Return the rows of packed hashes (n * 32 bytes) that a sample of `rate` (0 to 1) takes, ascending.

    A content is in or out by its hash alone: wherever and whenever it is asked for, and in every larger sample if it is in a
    smaller one. A row of zeros, which names nothing, is out.
    """
    numbers = np.frombuffer(hashes, ">u8").reshape(-1, HASH_BYTES // 8)[:, 0]  # (n,)
    taken: npt.NDArray[np.intp] = np.flatnonzero((numbers < rate * _ALL) & (numbers > 0))
    return taken
