"""Reporting: log lines about what lookups met, few enough to be read."""

from __future__ import annotations

import logging
import threading
import time

from embedder_cache.reading import BatchRead

_log = logging.getLogger(__name__)

_INTERVAL_S = 1.0


class DamageReporter:
    """Logs damaged records at most once a second, and each unreadable generation once. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._unsaid = 0
        self._next_line = 0.0
        self._unreadable: set[int] = set()

    def note(self, read: BatchRead) -> None:
        """Tell of one batch, when there is something to tell."""
        if read.damaged:
            self._note_damaged(read.damaged)
        for sequence, reason in read.unreadable.items():
            if sequence not in self._unreadable:
                self._unreadable.add(sequence)
                _log.error("%s; its contents are treated as missing", reason)

    def _note_damaged(self, count: int) -> None:
        with self._lock:
            self._unsaid += count
            now = time.monotonic()
            if now < self._next_line:
                return
            self._next_line = now + _INTERVAL_S
            said, self._unsaid = self._unsaid, 0
        _log.warning("%d records did not check out and are treated as missing", said)
