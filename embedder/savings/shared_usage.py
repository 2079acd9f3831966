"""Usage that the heads of one call share: kept as one entry a call, and parted into a group a head once a flush."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from embedder.savings.ledger_file import MINUTE_S
from embedder.savings.usage import Counts, Group, UsageRecord

_HASH_BYTES = 32


@dataclass(frozen=True, slots=True, eq=False)
class _Shared:
    second: int
    group: Group
    heads: tuple[str, ...]
    counts: Counts
    head_ns: npt.NDArray[np.int64]  # (heads,)
    hashes: bytes


class SharedUsage:
    """Collects what calls with many heads used; a call costs one append, whatever the number of heads. Thread-safe."""

    def __init__(self) -> None:
        self._pending: deque[_Shared] = deque()

    def record(
        self, group: Group, heads: tuple[str, ...], counts: Counts, hashes: bytes, *, head_ns: npt.NDArray[np.int64]
    ) -> None:
        """Count the same usage now for each of several heads, each being a task, and for each its own time.

        Args:
            group: whom it is counted for, but for the task and the head.
            heads: the heads' names.
            counts: what each of them used.
            hashes: content hashes that each of them asked for, packed, 32 bytes each.
            head_ns: (heads,) nanoseconds of each, beside those of `counts`.
        """
        self._pending.append(_Shared(int(time.time()), group, heads, counts, head_ns, hashes))

    def drain(self) -> Iterator[UsageRecord]:
        """Take everything recorded so far, a record a head; calls of the same heads are added up first."""
        alike: dict[tuple[int, Group, tuple[str, ...]], list[_Shared]] = defaultdict(list)
        for _ in range(len(self._pending)):
            shared = self._pending.popleft()
            alike[shared.second // MINUTE_S, shared.group, shared.heads].append(shared)
        for (_, group, heads), calls in alike.items():
            counts = sum((call.counts for call in calls[1:]), calls[0].counts)
            head_ns = np.sum([call.head_ns for call in calls], axis=0).tolist()
            hashes = _once_each(b"".join([call.hashes for call in calls]))  # here, rather than for every head again
            for head, nanoseconds in zip(heads, head_ns, strict=True):
                own = replace(group, task=head, head=head)
                yield UsageRecord(calls[0].second, own, counts + Counts(head_ns=nanoseconds), hashes)


def _once_each(packed: bytes) -> bytes:
    """Return packed hashes without repeats; their first 64 bits tell them apart, as they do for the ledger's counters."""
    hashes = np.frombuffer(packed, "<u8").reshape(-1, _HASH_BYTES // 8)  # (n, 4)
    _, first = np.unique(hashes[:, 0], return_index=True)
    return hashes[first].tobytes()
