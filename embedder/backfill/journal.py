"""The journal: which shards of a job are done, in SQLite; only ever added to, and durable when a call returns.

Any process may read it while the job runs.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import numpy as np
import numpy.typing as npt

_NAME = "journal.sqlite"
# A run whose last word is older than this has been killed.
_DEAD_AFTER_S = 15.0
_RATE_WINDOW_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardDone:
    """What one shard came to.

    Attributes:
        shard: its number.
        rows: rows of it.
        held: rows that the cache held.
        shared: rows that a tier of several machines held.
        joined: rows that an earlier row or shard was computing.
        computed: rows that were computed.
        rejected: rows without a vector.
        encodes: texts and images that the device computed.
        device_s: device seconds of them.
        lookup_s: seconds of asking the cache.
        input_bytes: bytes of the contents.
    """

    shard: int
    rows: int
    held: int = 0
    shared: int = 0
    joined: int = 0
    computed: int = 0
    rejected: int = 0
    encodes: int = 0
    device_s: float = 0.0
    lookup_s: float = 0.0
    input_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRun:
    """One process's work on the job.

    Attributes:
        started: Unix time.
        last_word: Unix time of its last write.
        ended: Unix time; None while it runs, and for one that was killed.
        process: its id, and its machine.
        outcome: how it ended, in words; empty until it has.
        encoding: contents that the device computed of shards that are not done yet.
    """

    started: float
    last_word: float
    ended: float | None
    process: str
    outcome: str
    encoding: int

    @property
    def is_running(self) -> bool:
        """Whether it wrote lately and said no end."""
        return self.ended is None and time.time() - self.last_word < _DEAD_AFTER_S


_COLUMNS = tuple(field.name for field in fields(ShardDone))
_SUMS = ", ".join(f"COALESCE(SUM({name}), 0)" for name in _COLUMNS[1:])
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS passes (pass INTEGER PRIMARY KEY AUTOINCREMENT, started REAL NOT NULL, finished REAL);
CREATE TABLE IF NOT EXISTS runs (run INTEGER PRIMARY KEY AUTOINCREMENT, started REAL NOT NULL, last_word REAL NOT NULL, ended REAL,
    process TEXT NOT NULL, outcome TEXT NOT NULL DEFAULT '', encoding INTEGER NOT NULL DEFAULT 0);
CREATE TABLE IF NOT EXISTS done (pass INTEGER NOT NULL, {", ".join(f"{name} NUMERIC NOT NULL" for name in _COLUMNS)},
    finished REAL NOT NULL, PRIMARY KEY (pass, shard)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS done_by_time ON done (finished);
"""


class Journal:
    """One job's journal. Thread-safe; each call has a connection of its own, but for those of the run that writes."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _NAME
        self._lock = threading.Lock()
        self._writer: sqlite3.Connection | None = None
        self._run = 0
        self._pass = 0

    def begin(self, *, again: bool) -> None:
        """Note that this process works on the job now.

        Args:
            again: begin a new pass, in which no shard is done.
        """
        self._writer = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._writer.execute("PRAGMA journal_mode = WAL")
        self._writer.execute("PRAGMA synchronous = FULL")
        self._writer.executescript(_SCHEMA)
        self._path.chmod(0o600)
        now = time.time()
        newest = self._writer.execute("SELECT MAX(pass) FROM passes").fetchone()[0]
        if newest is None or again:
            newest = self._writer.execute("INSERT INTO passes (started) VALUES (?)", (now,)).lastrowid
        self._pass = int(newest)
        process = f"{os.getpid()} on {socket.gethostname()}"
        found = self._writer.execute(
            "INSERT INTO runs (started, last_word, process) VALUES (?, ?, ?)", (now, now, process)
        ).lastrowid
        self._run = int(found or 0)

    def note_done(self, done: ShardDone) -> None:
        """Note that a shard is done: its vectors are committed and its outputs written."""
        marks = ", ".join("?" * (len(_COLUMNS) + 2))
        row = (self._pass, *astuple(done), time.time())
        with self._writing() as writer:
            writer.execute(f"INSERT OR REPLACE INTO done VALUES ({marks})", row)

    def note_encoding(self, encoding: int) -> None:
        """Note that the run lives, and how much the device has computed of shards that are not done yet."""
        with self._writing() as writer:
            writer.execute(
                "UPDATE runs SET last_word = ?, encoding = ? WHERE run = ?", (time.time(), encoding, self._run)
            )

    def note_finished(self) -> None:
        """Note that every shard is done and the outputs are complete."""
        with self._writing() as writer:
            writer.execute("UPDATE passes SET finished = ? WHERE pass = ?", (time.time(), self._pass))

    def is_finished(self) -> bool:
        """Tell whether the newest pass is complete, outputs too."""
        with self._reading() as reader:
            row = reader and reader.execute("SELECT finished FROM passes ORDER BY pass DESC LIMIT 1").fetchone()
        return bool(row and row[0])

    def end(self, outcome: str) -> None:
        """Note how the run ended, and close."""
        now = time.time()
        with self._writing() as writer:
            writer.execute(
                "UPDATE runs SET last_word = ?, ended = ?, outcome = ?, encoding = 0 WHERE run = ?",
                (now, now, outcome, self._run),
            )
        writer.close()
        self._writer = None

    def is_done(self, shards: int) -> npt.NDArray[np.bool_]:
        """Tell for each of so many shards whether it is done in the newest pass."""
        done = np.zeros(shards, np.bool_)
        with self._reading() as reader:
            if reader is not None:
                query = "SELECT shard FROM done WHERE pass = (SELECT MAX(pass) FROM passes)"
                for (shard,) in reader.execute(query):
                    done[shard] = True
        return done

    def totals(self) -> tuple[int, ShardDone]:
        """Return how many shards are done in the newest pass, and their sums; its `shard` is -1."""
        with self._reading() as reader:
            if reader is None:
                return 0, ShardDone(shard=-1, rows=0)
            query = f"SELECT COUNT(*), {_SUMS} FROM done WHERE pass = (SELECT MAX(pass) FROM passes)"
            count, *sums = reader.execute(query).fetchone()
        return count, ShardDone(shard=-1, **dict(zip(_COLUMNS[1:], sums, strict=True)))

    def recent_rate(self) -> float:
        """Return rows a second over the last minute in which shards were done, of the newest run; 0 without any."""
        with self._reading() as reader:
            if reader is None:
                return 0.0
            started, newest = reader.execute(
                "SELECT (SELECT MAX(started) FROM runs), (SELECT MAX(finished) FROM done)"
            ).fetchone()
            if newest is None:
                return 0.0
            since = max(started, newest - _RATE_WINDOW_S)
            rows = reader.execute("SELECT COALESCE(SUM(rows), 0) FROM done WHERE finished > ?", (since,)).fetchone()[0]
        return float(rows / (newest - since)) if newest > since else 0.0

    def last_run(self) -> JobRun | None:
        """Return the newest run; None where the job has not run yet."""
        with self._reading() as reader:
            row = (
                reader
                and reader.execute(
                    "SELECT started, last_word, ended, process, outcome, encoding FROM runs ORDER BY run DESC LIMIT 1"
                ).fetchone()
            )
        names = ("started", "last_word", "ended", "process", "outcome", "encoding")
        return JobRun(**dict(zip(names, row, strict=True))) if row else None

    def runs(self) -> int:
        """Return how many runs there were."""
        with self._reading() as reader:
            return 0 if reader is None else int(reader.execute("SELECT COUNT(*) FROM runs").fetchone()[0])

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            assert self._writer is not None
            yield self._writer

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection | None]:
        if not self._path.exists():
            yield None
            return
        with closing(sqlite3.connect(self._path, timeout=30.0)) as reader:
            yield reader
