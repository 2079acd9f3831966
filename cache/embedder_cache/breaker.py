"""A circuit breaker: after repeated failures a tier is left alone for a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Counts failures in a row; open, it lets one try through when its wait is over. Thread-safe.

    The wait doubles with every failed try, up to its maximum, and starts small again after a success.
    """

    def __init__(
        self,
        *,
        max_failures: int,
        min_wait_s: float,
        max_wait_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_failures = max_failures
        self._min_wait_s = min_wait_s
        self._max_wait_s = max_wait_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0
        self._wait_s = min_wait_s
        self._retry_at = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the tier is left alone now, but for single tries."""
        return self._failures >= self._max_failures

    def allow(self) -> bool:
        """Say whether a call may be made; while open, only one caller at a time gets a try when the wait is over."""
        if self._failures < self._max_failures:
            return True
        with self._lock:
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._wait_s
            return True

    def note_success(self) -> None:
        """Close after a call that was answered."""
        if self._failures:
            with self._lock:
                self._failures = 0
                self._wait_s = self._min_wait_s

    def note_failure(self) -> None:
        """Count a call that failed; opens at `max_failures` in a row."""
        with self._lock:
            self._failures += 1
            if self._failures > self._max_failures:
                self._wait_s = min(self._max_wait_s, 2 * self._wait_s)
            if self._failures >= self._max_failures:
                self._retry_at = self._clock() + self._wait_s
