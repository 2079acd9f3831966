"""Admission: work that could not be answered in time is refused at once, in device milliseconds, not in request counts."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Protocol

from embedder.engine.contents import Lane
from embedder.errors import Overloaded

_LONGEST_PUSHBACK_MS = 10_000
_SHORTEST_PUSHBACK_MS = 20
# Of the time to a deadline, what the estimate may fill: work that is admitted and then late is done for nobody.
_USABLE_SHARE = 0.8


class QueuedWork(Protocol):
    """Where queued device nanoseconds are counted: whole numbers come back to zero when everything admitted was released."""

    def add(self, lane: Lane, nanoseconds: int) -> None:
        """Count work in, or out when negative; one thread at a time."""
        ...

    def total(self, lane: Lane) -> int:
        """Return what is queued in a lane, by whomever."""
        ...


class QueuedHere:
    """Work that this process alone queues."""

    def __init__(self) -> None:
        self._queued_ns = dict.fromkeys(Lane, 0)

    def add(self, lane: Lane, nanoseconds: int) -> None:
        """Count work in, or out when negative; one thread at a time."""
        self._queued_ns[lane] += nanoseconds

    def total(self, lane: Lane) -> int:
        """Return what is queued in a lane."""
        return self._queued_ns[lane]


class Admission:
    """Counts the estimated device seconds of everything admitted and not yet answered, by lane. Thread-safe.

    Interactive work waits behind interactive work only; bulk work waits behind both.
    """

    def __init__(self, *, max_queue_s: Mapping[Lane, float], queued: QueuedWork | None = None) -> None:
        """Begin to count.

        Args:
            max_queue_s: estimated device seconds that may wait, by lane.
            queued: where work is counted; None where no other process queues for the device.
        """
        self._max_queue_s = dict(max_queue_s)
        self._queued = queued or QueuedHere()
        self._lock = threading.Lock()

    def admit(self, lane: Lane, item_seconds: Sequence[float], *, batch_s: float, seconds_left: float) -> None:
        """Count new work in, given by the estimated device seconds of each content.

        Work is always admitted when nothing is queued before it, however large it is.

        Args:
            batch_s: device seconds that its batch costs beside its contents.
            seconds_left: until nobody waits for it any more.

        Raises:
            Overloaded: the queue is over the lane's limit, or could not be worked off in time.
        """
        seconds = sum(item_seconds) + batch_s
        with self._lock:
            before, allowed = self._before_s(lane), self._allowed_s(lane, seconds_left)
            if before > 0 and before + seconds > allowed:
                excess_ms = int(1_000 * (before + seconds - allowed))
                raise Overloaded(
                    f"{before * 1_000:.0f} ms of device work are queued before this call's {seconds * 1_000:.0f} ms; "
                    f"allowed are {allowed * 1_000:.0f} ms in the {lane.name.lower()} lane",
                    retry_after_ms=min(max(excess_ms, _SHORTEST_PUSHBACK_MS), _LONGEST_PUSHBACK_MS),
                )
            self._count(lane, item_seconds)

    def is_full(self, lane: Lane, *, seconds_left: float) -> bool:
        """Whether so much is queued that the least work more would be refused; takes no lock."""
        before = self._before_s(lane)
        return before > 0 and before > self._allowed_s(lane, seconds_left)

    def _before_s(self, lane: Lane) -> float:
        return 1e-9 * sum([self._queued.total(other) for other in Lane if other <= lane])

    def _allowed_s(self, lane: Lane, seconds_left: float) -> float:
        return min(self._max_queue_s[lane], _USABLE_SHARE * seconds_left)

    def _count(self, lane: Lane, item_seconds: Sequence[float]) -> None:
        self._queued.add(lane, sum(map(_whole_ns, item_seconds)))

    def release(self, lane: Lane, item_seconds: float) -> None:
        """Count one content out that was answered, whatever the answer; the seconds are those that it was admitted with."""
        with self._lock:
            self._queued.add(lane, -_whole_ns(item_seconds))

    def queued_s(self, lane: Lane) -> float:
        """Return the estimated device seconds that are admitted and unanswered in a lane."""
        return 1e-9 * self._queued.total(lane)


def _whole_ns(seconds: float) -> int:
    return round(seconds * 1e9)
