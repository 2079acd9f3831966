"""Advising: what hit rate the cache would have had at other sizes, from the access sample."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_INDEX_BYTES = 250  # an entry's share of index, guide and room taken in advance; measured at a million entries


@dataclass(frozen=True)
class SizeAdvice:
    """One point of the curve, estimated by replay.

    Attributes:
        max_bytes: the size of the cache.
        hit_rate: hits among the accesses of the replay's second half; the first half fills the cache.
    """

    max_bytes: int
    hit_rate: float


def advise(
    accesses: npt.NDArray[np.void],
    *,
    rate: float,
    sizes: Sequence[int],
    note_progress: Callable[[int], None] = lambda count: None,
) -> list[SizeAdvice]:
    """Replay accesses through least-recently-used caches of several sizes.

    Args:
        accesses: (n,) from `read_samples`, in the order of time.
        rate: the part of all keys that is in the sample; sizes are scaled by it.
        sizes: in bytes.
        note_progress: told how many accesses were replayed since it was last told.
    Returns:
        One point for each size.
    """
    contents = accesses["content"].tolist()
    costs = (accesses["record_bytes"].astype(np.int64) + _INDEX_BYTES).tolist()
    points = []
    for size in sizes:
        hits = _replay(contents, costs, int(size * rate))
        counted = max(1, len(contents) - len(contents) // 2)
        points.append(SizeAdvice(size, hits / counted))
        note_progress(len(contents))
    return points


def _replay(contents: list[int], costs: list[int], capacity: int) -> int:
    """Count the hits in the second half of the accesses."""
    held: OrderedDict[int, int] = OrderedDict()
    used = hits = 0
    counted_from = len(contents) // 2
    for number, (content, cost) in enumerate(zip(contents, costs, strict=True)):
        if content in held:
            held.move_to_end(content)
            hits += number >= counted_from
            continue
        held[content] = cost
        used += cost
        while used > capacity and held:
            used -= held.popitem(last=False)[1]
    return hits
