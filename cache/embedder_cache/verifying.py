"""Verifying: reading every record of a cache and checking it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from embedder_cache.errors import CacheDamaged
from embedder_cache.record import is_written
from embedder_cache.store import VectorCache
from embedder_cache.walking import whole_records


@dataclass(frozen=True)
class Verification:
    """What a walk through all records met.

    Attributes:
        entries: keys in the indexes.
        whole: records that checked out.
        damaged: records that are there and did not check out; they are served as misses.
        unreadable: generations that could not be walked to the end.
    """

    entries: int
    whole: int
    damaged: int
    unreadable: int


def verify(cache: VectorCache, *, note_progress: Callable[[int], None] = lambda count: None) -> Verification:
    """Check every record of every generation; safe while another process writes.

    Args:
        cache: the cache.
        note_progress: told how many entries were examined since it was last told.
    """
    entries = whole = damaged = unreadable = 0
    for generation in cache.generations():
        try:
            for keys, blocks in generation.index.scan():
                good = np.zeros(len(keys), np.bool_)
                for positions, _, _ in whole_records(generation, keys, blocks):
                    good[positions] = True
                written = is_written(generation.slab.gather(blocks, record_blocks=1))
                entries += len(keys)
                whole += int(good.sum())
                damaged += int((written & ~good).sum())
                note_progress(len(keys))
        except CacheDamaged:
            unreadable += 1
    return Verification(entries, whole, damaged, unreadable)
