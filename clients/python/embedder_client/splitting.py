"""Where a large input is cut: runs of items that fit one message."""

from __future__ import annotations

from collections.abc import Sequence


def split_runs(sizes: Sequence[int], *, max_bytes: int, max_items: int) -> list[range]:
    """Cut items into runs that keep both budgets, in order; an item over `max_bytes` gets a run of its own.

    Args:
        sizes: encoded bytes of each item.
        max_bytes: bytes of one run.
        max_items: items of one run, 1 or more.

    Returns:
        Ranges that follow each other and cover every item; none is empty.
    """
    runs: list[range] = []
    start = used = 0
    for position, size in enumerate(sizes):
        if position > start and (used + size > max_bytes or position - start == max_items):
            runs.append(range(start, position))
            start, used = position, 0
        used += size
    if sizes:
        runs.append(range(start, len(sizes)))
    return runs
