"""Usage on its way to the ledger's file: recorded at once, and taken there by a thread once a second."""

from __future__ import annotations

import sqlite3
import threading
import time
from abc import abstractmethod
from collections import deque
from pathlib import Path

import structlog

from embedder.savings.ledger_file import LedgerFile
from embedder.savings.shared_usage import SharedUsage
from embedder.savings.usage import Counts, Group, UsageRecord

_log = structlog.get_logger(__name__)

_FLUSH_INTERVAL_S = 1.0


class UsageLog(LedgerFile):
    """Counts usage; a record costs the caller one append. Thread-safe. How it gets to the file is the subclass's.

    Attributes:
        shared: records calls whose usage many groups share.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._pending: deque[UsageRecord] = deque()
        self.shared = SharedUsage()
        self._write_lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    @abstractmethod
    def _write(self, records: list[UsageRecord]) -> None:
        """Take records to the file; what could not be taken is put back into `_pending`."""

    def _tidy(self) -> None:
        """Do what the file needs now and then; called after each flush of the thread."""

    def record(self, group: Group, counts: Counts, hashes: bytes = b"") -> None:
        """Count usage now.

        Args:
            hashes: content hashes that were asked for, packed, 32 bytes each; they count as distinct contents.
            second: when it was, Unix time; None means now.
        """
        self._pending.append(UsageRecord(int(time.time()), group, counts, hashes))

    def add(self, record: UsageRecord) -> None:
        """Count usage that was recorded elsewhere, such as in another process."""
        self._pending.append(record)

    def flush(self) -> None:
        """Write everything recorded so far to the file."""
        with self._write_lock:
            self._write(self._drain())

    def close(self) -> None:
        """Write what is left, and stop the thread."""
        self._stop.set()
        self._thread.join()
        self.flush()

    def _start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(_FLUSH_INTERVAL_S):
            try:
                self.flush()
                self._tidy()
            except sqlite3.Error as error:
                # What could not be written is kept and written with the next flush.
                _log.error("savings ledger could not be written", path=str(self._path), error=str(error))

    def _settle(self) -> None:
        self.flush()

    def _drain(self) -> list[UsageRecord]:
        return [self._pending.popleft() for _ in range(len(self._pending))] + list(self.shared.drain())
