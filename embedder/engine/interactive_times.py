"""How long interactive contents took lately: what bulk work may add to them is a share of that."""

from __future__ import annotations

import threading
import time
from collections import deque

import numpy as np

# So many contents tell a percentile that means something; the last minute or so of a service that is hardly asked.
_WINDOW = 256
_LEAST = 16
_PERCENTILE = 99
# An interactive content waits for one bulk batch at most, and its own batch is as much longer for what fills it: a fifth together.
_BULK_SHARE = 0.1
_RECENT_S = 1.0


class InteractiveTimes:
    """Seconds from an interactive content's miss to its vector, the last few hundred. Thread-safe."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_WINDOW)
        self._last_at = float("-inf")
        self._lock = threading.Lock()
        self._percentile_s: float | None = None

    def came(self) -> None:
        """Note that somebody asks in the interactive lane now."""
        self._last_at = time.monotonic()

    def took(self, seconds: float) -> None:
        """Note how long an interactive content took."""
        with self._lock:
            self._seconds.append(seconds)
            self._percentile_s = None

    @property
    def is_asked(self) -> bool:
        """Whether somebody asked in the interactive lane within the last second."""
        return time.monotonic() - self._last_at < _RECENT_S

    def bulk_batch_s(self) -> float | None:
        """Return how long a bulk batch may take while somebody asks; None as long as too little is known."""
        with self._lock:
            if len(self._seconds) < _LEAST:
                return None
            if self._percentile_s is None:
                self._percentile_s = float(np.percentile(self._seconds, _PERCENTILE))
            return _BULK_SHARE * self._percentile_s
