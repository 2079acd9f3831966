"""Walking: reading whole records of any dimension, as they describe themselves."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from embedder_cache.generation import Generation
from embedder_cache.record import RecordLayout, record_dims


def whole_records(
    generation: Generation, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64]
) -> Iterator[tuple[npt.NDArray[np.int64], RecordLayout, npt.NDArray[np.uint8]]]:
    """Read the records of keys, one dimension after another; erased and damaged ones are left out.

    Args:
        generation: where they are.
        keys: (n, 48) uint8.
        blocks: (n,) int64.
    Yields:
        positions (m,) int64 among the n, ascending; their layout; and records (m, record_bytes) uint8.
    Raises:
        CacheDamaged: a file was found inconsistent.
    """
    dims = record_dims(generation.slab.gather(blocks, record_blocks=1))
    for dim in np.unique(dims[dims > 0]).tolist():
        positions = np.flatnonzero(dims == dim)
        layout = RecordLayout(dim)
        records = generation.slab.gather(blocks[positions], record_blocks=layout.blocks)
        whole = layout.check(records, keys[positions])
        if whole.any():
            yield positions[whole], layout, records[whole]
