"""The read path: one batch through the generations, the newest first, every record checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheDamaged
from embedder_cache.generation import Generation
from embedder_cache.record import RecordLayout, is_written, record_times
from embedder_cache.tier import Lookup

_log = logging.getLogger(__name__)


@dataclass
class ReadTally:
    """What one batch met on its way; counts of records, and the generations that could not be read."""

    damaged: int = 0
    expired: int = 0
    unreadable: tuple[int, ...] = ()


def read_batch(
    generations: Sequence[Generation], keys: npt.NDArray[np.uint8], layout: RecordLayout, *, not_before: int
) -> tuple[Lookup, ReadTally]:
    """Look a batch up.

    Args:
        generations: the newest first.
        keys: (n, 48) uint8.
        layout: the layout of the space's records.
        not_before: records first written before this second (since 1970) are misses.
    Returns:
        What was found, and what was met that did not check out.
    """
    tally = ReadTally()
    vectors = np.zeros((len(keys), layout.dim), np.float16)
    found = np.zeros(len(keys), np.bool_)
    pending = np.arange(len(keys))
    for generation in generations:
        if not len(pending):
            break
        wanted = keys if len(pending) == len(keys) else keys[pending]
        try:
            blocks, records = generation.read(wanted, layout)
        except CacheDamaged as error:
            _log.error("%s; its contents are treated as missing", error)
            tally.unreadable += (generation.sequence,)
            continue
        if not blocks.any():
            continue
        valid = _check(records, wanted, layout, not_before, tally)
        if valid.all() and len(pending) == len(keys):
            return Lookup(layout.vectors(records), valid), tally
        hits = pending[valid]
        vectors[hits] = layout.vectors(records[valid])
        found[hits] = True
        pending = pending[~valid]
    return Lookup(vectors, found), tally


def _check(
    records: npt.NDArray[np.uint8],
    keys: npt.NDArray[np.uint8],
    layout: RecordLayout,
    not_before: int,
    tally: ReadTally,
) -> npt.NDArray[np.bool_]:
    """Say which records answer their keys; count those that should and don't."""
    valid = layout.check(records, keys)
    if not valid.all():
        damaged = int(np.count_nonzero(is_written(records) & ~valid))
        if damaged:
            tally.damaged += damaged
            _log.warning("%d records did not check out and are treated as missing", damaged)
    if not_before:
        fresh = record_times(records) >= not_before
        tally.expired += int(np.count_nonzero(valid & ~fresh))
        valid &= fresh
    return valid
