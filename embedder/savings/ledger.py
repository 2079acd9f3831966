"""The ledger: what every task asked, and what that cost, in SQLite, by the minute."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog

from embedder.savings.distinct import DistinctCounter
from embedder.savings.shared_usage import SharedUsage
from embedder.savings.usage import COUNTERS, Counts, Group

_log = structlog.get_logger(__name__)

_FLUSH_INTERVAL_S = 1.0
_MINUTE_S = 60
_DAY_S = 86_400
_HASH_BYTES = 32
_SCHEMA_VERSION = 1
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS usage (
    minute INTEGER NOT NULL, task TEXT NOT NULL, client TEXT NOT NULL, space TEXT NOT NULL, lane TEXT NOT NULL,
    {", ".join(f"{name} INTEGER NOT NULL" for name in COUNTERS)},
    PRIMARY KEY (minute, task, client, space, lane)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS distinct_contents (
    day INTEGER NOT NULL, task TEXT NOT NULL, client TEXT NOT NULL, space TEXT NOT NULL, lane TEXT NOT NULL, state BLOB NOT NULL,
    PRIMARY KEY (day, task, client, space, lane)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL);
"""
_ADD_USAGE = (
    f"INSERT INTO usage VALUES (?, ?, ?, ?, ?, {', '.join('?' * len(COUNTERS))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in COUNTERS)}"
)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """One group's counters of one minute."""

    minute: int
    group: Group
    counts: Counts


class Ledger:
    """Counts usage durably; a record costs the caller one append.

    A thread adds what was recorded to the file once a second, so that kill -9 loses at most the last second. Thread-safe.
    Contents are counted by ids of 64 bits that are derived from their hashes with a secret of this file, so the file names no content.

    Attributes:
        shared: records calls whose usage many groups share.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: deque[tuple[int, Group, Counts, bytes]] = deque()
        self.shared = SharedUsage()
        self._write_lock = threading.Lock()
        self._stop = threading.Event()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(self._connect()) as connection, connection:
            connection.executescript(_SCHEMA)
            connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
            self._secret = _secret(connection)
        path.chmod(0o600)
        self._counters: dict[tuple[int, Group], DistinctCounter] = {}
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._path

    def record(self, group: Group, counts: Counts, hashes: bytes = b"") -> None:
        """Count usage now.

        Args:
            hashes: content hashes that were asked for, packed, 32 bytes each; they count as distinct contents.
        """
        self._pending.append((int(time.time()), group, counts, hashes))

    def flush(self) -> None:
        """Write everything recorded so far to the file."""
        with self._write_lock:
            self._write(self._drain())

    def rows(self, *, start: int = 0, end: int | None = None) -> Iterator[UsageRow]:
        """Read the counters from `start` (inclusive) to `end` (exclusive), Unix seconds, to the minute."""
        self.flush()
        with closing(self._connect()) as connection:
            cursor = connection.execute(
                f"SELECT minute, task, client, space, lane, {', '.join(COUNTERS)} FROM usage WHERE minute >= ? AND minute < ?",
                (start // _MINUTE_S, _end(end, _MINUTE_S)),
            )
            for minute, task, client, space, lane, *counters in cursor:
                yield UsageRow(minute * _MINUTE_S, Group(task, client, space, lane), Counts(*counters))

    def distinct(self, *, start: int = 0, end: int | None = None) -> Iterator[tuple[Group, DistinctCounter]]:
        """Read the distinct contents of each group on each UTC day that the range touches."""
        self.flush()
        with closing(self._connect()) as connection:
            cursor = connection.execute(
                "SELECT task, client, space, lane, state FROM distinct_contents WHERE day >= ? AND day < ?",
                (start // _DAY_S, _end(end, _DAY_S)),
            )
            for task, client, space, lane, state in cursor:
                yield Group(task, client, space, lane), DistinctCounter.from_bytes(state)

    def close(self) -> None:
        """Write what is left, and stop the thread."""
        self._stop.set()
        self._thread.join()
        self.flush()

    def _run(self) -> None:
        while not self._stop.wait(_FLUSH_INTERVAL_S):
            try:
                self.flush()
            except sqlite3.Error as error:
                # What could not be written is kept and written with the next flush.
                _log.error("savings ledger could not be written", path=str(self._path), error=str(error))

    def _drain(self) -> list[tuple[int, Group, Counts, bytes]]:
        return [self._pending.popleft() for _ in range(len(self._pending))] + list(self.shared.drain())

    def _write(self, records: list[tuple[int, Group, Counts, bytes]]) -> None:
        if not records:
            return
        usage: dict[tuple[int, Group], Counts] = defaultdict(Counts)
        hashes: dict[tuple[int, Group], list[bytes]] = defaultdict(list)
        for second, group, counts, packed in records:
            usage[second // _MINUTE_S, group] += counts
            if packed:
                hashes[second // _DAY_S, group].append(packed)
        try:
            with closing(self._connect()) as connection, connection:
                for (minute, group), counts in usage.items():
                    connection.execute(
                        _ADD_USAGE, (minute, *_columns(group), *[getattr(counts, name) for name in COUNTERS])
                    )
                for (day, group), packed_hashes in hashes.items():
                    counter = self._counter(connection, day, group)
                    if counter.add(self._ids(packed_hashes)):
                        row = (day, *_columns(group), counter.to_bytes())
                        connection.execute("INSERT OR REPLACE INTO distinct_contents VALUES (?, ?, ?, ?, ?, ?)", row)
        except sqlite3.Error:
            self._pending.extendleft(reversed(records))
            self._counters.clear()
            raise

    def _counter(self, connection: sqlite3.Connection, day: int, group: Group) -> DistinctCounter:
        counter = self._counters.get((day, group))
        if counter is None:
            query = "SELECT state FROM distinct_contents WHERE day=? AND task=? AND client=? AND space=? AND lane=?"
            stored = connection.execute(query, (day, *_columns(group))).fetchone()
            counter = DistinctCounter.from_bytes(stored[0]) if stored else DistinctCounter()
            self._counters = {key: kept for key, kept in self._counters.items() if key[0] == day}
            self._counters[day, group] = counter
        return counter

    def _ids(self, packed_hashes: Iterable[bytes]) -> npt.NDArray[np.uint64]:
        hashes = np.frombuffer(b"".join(packed_hashes), "<u8").reshape(-1, _HASH_BYTES // 8)  # (n, 4)
        multiplier, mask = self._secret
        mixed: npt.NDArray[np.uint64] = (hashes[:, 0] ^ mask) * multiplier  # wraps: a keyed permutation of 64 bits
        return mixed ^ (mixed >> np.uint64(32))

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # safe for kill -9; a power loss may lose the last seconds
        return connection


def _columns(group: Group) -> tuple[str, str, str, str]:
    return group.task, group.client, group.space, group.lane


def _end(end: int | None, unit_s: int) -> int:
    return 2**62 if end is None else -(-end // unit_s)


def _secret(connection: sqlite3.Connection) -> tuple[np.uint64, np.uint64]:
    """Read the file's secret (an odd multiplier and a mask), made when the file is."""
    connection.execute("INSERT OR IGNORE INTO secrets VALUES ('content-id', ?)", (secrets.token_bytes(16),))
    value = connection.execute("SELECT value FROM secrets WHERE name = 'content-id'").fetchone()[0]
    multiplier, mask = np.frombuffer(value, "<u8")
    return np.uint64(multiplier | np.uint64(1)), np.uint64(mask)
