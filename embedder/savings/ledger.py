"""The ledger: what every task asked, and what that cost, in SQLite, by the minute."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog

from embedder.savings.distinct import DistinctCounter
from embedder.savings.ledger_file import DAY_S, MINUTE_S
from embedder.savings.retention import Retention, roll_up
from embedder.savings.schema import prepare
from embedder.savings.usage import COUNTERS, DIMENSIONS, Counts, Group, UsageRecord
from embedder.savings.usage_log import UsageLog

_log = structlog.get_logger(__name__)

_GAUGE_INTERVAL_S = 10.0
_ROLL_UP_INTERVAL_S = 3_600.0
_HASH_BYTES = 32
_MARKS = ", ".join("?" * len(DIMENSIONS))
_ADD_USAGE = (
    f"INSERT INTO usage VALUES (?, 1, {_MARKS}, {', '.join('?' * len(COUNTERS))}) "
    f"ON CONFLICT DO UPDATE SET {', '.join(f'{name} = {name} + excluded.{name}' for name in COUNTERS)}"
)
_ADD_UPTIME = (
    "INSERT INTO uptime VALUES (?, 1, ?, ?, ?) ON CONFLICT DO UPDATE SET up_ms = up_ms + excluded.up_ms, "
    "idle_uj = idle_uj + excluded.idle_uj, stored_byte_s = stored_byte_s + excluded.stored_byte_s"
)


@dataclass(frozen=True, slots=True)
class Gauges:
    """What the service holds at a moment, whether or not anybody asks: charged by the second.

    Attributes:
        idle_watts: power of the device at rest.
        stored_bytes: bytes of the vector cache.
    """

    idle_watts: float = 0.0
    stored_bytes: int = 0


class Ledger(UsageLog):
    """Counts usage durably; a record costs the caller one append.

    A thread adds what was recorded to the file once a second, so that kill -9 loses at most the last second. Thread-safe.
    Contents are counted by ids of 64 bits that are derived from their hashes with a secret of this file, so the file names no content.

    Attributes:
        shared: records calls whose usage many groups share.
    """

    def __init__(self, path: Path, *, retention: Retention | None = None) -> None:
        super().__init__(path)
        self._retention = retention or Retention()
        self._read_gauges: Callable[[], Gauges] = Gauges
        self._gauges = Gauges()
        self._gauges_at = self._rolled_up_at = float("-inf")
        self._beat_at = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with closing(self._connect()) as connection:
            prepare(connection)
            with connection:
                self._secret = _secret(connection)
                now = time.time()
                self._run_id = connection.execute(
                    "INSERT INTO runs (started, last_beat, meter) VALUES (?, ?, '{}')", (now, now)
                ).lastrowid
        path.chmod(0o600)
        self._counters: dict[tuple[int, Group], DistinctCounter] = {}
        self._start()

    def watch(self, read_gauges: Callable[[], Gauges], *, meter: Mapping[str, Mapping[str, str]]) -> None:
        """Charge by the second for what `read_gauges` tells, every ten seconds; and note what measures this run."""
        self._read_gauges, self._gauges_at = read_gauges, float("-inf")
        with self._write_lock, closing(self._connect()) as connection, connection:
            connection.execute("UPDATE runs SET meter = ? WHERE run = ?", (json.dumps(meter), self._run_id))

    def close(self) -> None:
        """Write what is left and that this run ended well, and stop the thread."""
        super().close()
        with closing(self._connect()) as connection, connection:
            connection.execute("UPDATE runs SET ended = ? WHERE run = ?", (time.time(), self._run_id))

    def _write(self, records: list[UsageRecord]) -> None:
        usage: dict[tuple[int, Group], Counts] = defaultdict(Counts)
        hashes: dict[tuple[int, Group], list[bytes]] = defaultdict(list)
        for record in records:
            usage[record.second // MINUTE_S, record.group] += record.counts
            if record.hashes:
                hashes[record.second // DAY_S, record.group].append(record.hashes)
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
                        connection.execute(f"INSERT OR REPLACE INTO distinct_contents VALUES (?, {_MARKS}, ?)", row)
                up_ms = self._beat(connection)
            self._beat_at += up_ms / 1e3  # what is left of a millisecond counts with the next beat
        except sqlite3.Error:
            self._pending.extendleft(reversed(records))
            self._counters.clear()
            raise

    def _beat(self, connection: sqlite3.Connection) -> int:
        """Say that the service lives, and charge the time since the last beat; returns it in milliseconds."""
        if time.monotonic() - self._gauges_at > _GAUGE_INTERVAL_S:
            self._gauges, self._gauges_at = self._read_gauges(), time.monotonic()
        now, gauges = time.time(), self._gauges
        up_ms = int((time.monotonic() - self._beat_at) * 1e3)
        held = (up_ms, round(up_ms * gauges.idle_watts * 1e3), up_ms * gauges.stored_bytes // 1_000)
        connection.execute(_ADD_UPTIME, (int(now) // MINUTE_S, *held))
        connection.execute("UPDATE runs SET last_beat = ? WHERE run = ?", (now, self._run_id))
        return up_ms

    def _tidy(self) -> None:
        if time.monotonic() - self._rolled_up_at < _ROLL_UP_INTERVAL_S:
            return
        with self._write_lock, closing(self._connect()) as connection, connection:
            touched = roll_up(connection, now=time.time(), retention=self._retention)
        self._rolled_up_at = time.monotonic()
        if touched:
            _log.info("savings ledger rolled up", rows=touched)

    def _counter(self, connection: sqlite3.Connection, day: int, group: Group) -> DistinctCounter:
        counter = self._counters.get((day, group))
        if counter is None:
            where = " AND ".join(f"{name} = ?" for name in DIMENSIONS)
            query = f"SELECT state FROM distinct_contents WHERE day = ? AND {where}"
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


def _columns(group: Group) -> tuple[str, ...]:
    return tuple(getattr(group, name) for name in DIMENSIONS)


def _secret(connection: sqlite3.Connection) -> tuple[np.uint64, np.uint64]:
    """Read the file's secret (an odd multiplier and a mask), made when the file is."""
    connection.execute("INSERT OR IGNORE INTO secrets VALUES ('content-id', ?)", (secrets.token_bytes(16),))
    value = connection.execute("SELECT value FROM secrets WHERE name = 'content-id'").fetchone()[0]
    multiplier, mask = np.frombuffer(value, "<u8")
    return np.uint64(multiplier | np.uint64(1)), np.uint64(mask)
