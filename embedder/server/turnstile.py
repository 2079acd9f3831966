"""Lets one call through at a time, a few wait, and refuses the rest at once."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from embedder.errors import DeadlineExpired, Overloaded

_FIRST_GUESS_S = 10.0
_SMOOTHING = 0.3


class Turnstile:
    """One at a time, in the order of coming."""

    def __init__(self, *, max_waiting: int) -> None:
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._line: deque[object] = deque()  # the first is being served
        self._turn_s = _FIRST_GUESS_S

    @contextmanager
    def turn(self, *, deadline: float, abandoned: Callable[[], bool]) -> Iterator[bool]:
        """Wait for one's turn and hold it; yields False when the caller left meanwhile.

        Args:
            deadline: `time.monotonic()` seconds.
            abandoned: whether the caller is gone; call `wake` when that changes.
        Raises:
            Overloaded: more are waiting than may.
            DeadlineExpired: the deadline passed in line.
        """
        ticket = object()
        with self._changed:
            if len(self._line) > self._max_waiting:
                retry_ms = int(1_000 * self._turn_s * len(self._line))
                waiting = f"{len(self._line) - 1} answers wait for the one that is being generated"
                raise Overloaded(
                    f"{waiting}; the limit is max_waiting_answers={self._max_waiting}", retry_after_ms=retry_ms
                )
            self._line.append(ticket)
        started = None
        try:
            with self._changed:
                while self._line[0] is not ticket and not abandoned():
                    left = deadline - time.monotonic()
                    if left <= 0:
                        raise DeadlineExpired("the deadline passed while other answers were generated")
                    self._changed.wait(left)
                if self._line[0] is ticket:
                    started = time.monotonic()
            yield started is not None and not abandoned()
        finally:
            with self._changed:
                if started is not None:
                    self._turn_s += _SMOOTHING * (time.monotonic() - started - self._turn_s)
                self._line.remove(ticket)
                self._changed.notify_all()

    def wake(self) -> None:
        """Let those in line look whether their caller is still there."""
        with self._changed:
            self._changed.notify_all()
