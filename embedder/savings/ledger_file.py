"""The ledger's file as it is read: totals, time series, distinct contents, uptime and the lives of the service."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from embedder.savings.distinct import DistinctCounter
from embedder.savings.usage import COUNTERS, DIMENSIONS, Counts, Group, Slice

MINUTE_S = 60
DAY_S = 86_400
# A run whose last beat is older than this, and that wrote no end, has been killed.
_DEAD_AFTER_S = 5.0
_KEY = ", ".join(DIMENSIONS)
_SUMS = ", ".join(f"SUM({name})" for name in COUNTERS)


@dataclass(frozen=True, slots=True)
class SeriesPoint:
    """One group's counters of one step of a time series.

    Attributes:
        time: Unix second at which the step starts.
        group: the group's name; empty for all together.
        counts: what was counted in the step.
    """

    time: int
    group: str
    counts: Counts


@dataclass(frozen=True, slots=True)
class Uptime:
    """How long the service ran in a range, and what it held meanwhile.

    Attributes:
        seconds: that the service ran.
        idle_joules: of the device at rest over that time.
        stored_byte_seconds: bytes in the cache, by the second.
    """

    seconds: float
    idle_joules: float
    stored_byte_seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One life of the service.

    Attributes:
        started: Unix time.
        last_beat: Unix time of its last write.
        is_killed: it wrote no end and beats no more: at most the second after `last_beat` was lost.
        meter: what measured it, by quantity; see `Meter.description`.
    """

    started: float
    last_beat: float
    is_killed: bool
    meter: Mapping[str, Mapping[str, str]]


class LedgerFile:
    """Reads a ledger's file; another process may be writing it. Thread-safe: each read has a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def path(self) -> Path:
        """The SQLite file."""
        return self._path

    def totals(self, part: Slice, *, by: Sequence[str] = ()) -> dict[tuple[str, ...], Counts]:
        """Add counters up by dimensions of `Group`; the sums of all groups are the total, exactly.

        Args:
            by: names of dimensions, such as `("task", "head")`; none gives one entry, `()`, or none if nothing was counted.
        """
        self._settle()
        names = ", ".join(_checked(by))
        grouping = f" GROUP BY {names}" if by else " HAVING COUNT(*) > 0"
        where, values = _where(part)
        selected = f"{names}, {_SUMS}" if by else _SUMS
        with closing(self._connect()) as connection:
            cursor = connection.execute(f"SELECT {selected} FROM usage WHERE {where}{grouping}", values)
            return {tuple(row[: len(by)]): Counts(*row[len(by) :]) for row in cursor}

    def series(self, part: Slice, *, step_s: int = MINUTE_S, by: str = "") -> list[SeriesPoint]:
        """Read a time series: counters by step and, if asked, by one dimension of `Group`; steps without usage are left out.

        Args:
            step_s: seconds of a step, a multiple of 60; hours and days that were rolled up stand at their start.
        """
        if step_s < MINUTE_S or step_s % MINUTE_S:
            raise ValueError(f"step_s={step_s} is not a multiple of {MINUTE_S}")
        self._settle()
        step = step_s // MINUTE_S
        name = _checked([by])[0] if by else "''"
        where, values = _where(part)
        with closing(self._connect()) as connection:
            cursor = connection.execute(
                f"SELECT minute / {step} * {step}, {name}, {_SUMS} FROM usage WHERE {where} GROUP BY 1, 2 ORDER BY 1, 2",
                values,
            )
            return [SeriesPoint(minute * MINUTE_S, group, Counts(*counts)) for minute, group, *counts in cursor]

    def extent(self, part: Slice) -> tuple[int, int]:
        """Return the first second counted and the one after the last; zeros when nothing was."""
        self._settle()
        where, values = _where(part)
        with closing(self._connect()) as connection:
            first, last = connection.execute(
                f"SELECT MIN(minute), MAX(minute + span_minutes) FROM usage WHERE {where}", values
            ).fetchone()
        return (0, 0) if first is None else (first * MINUTE_S, last * MINUTE_S)

    def distinct(self, part: Slice | None = None) -> Iterator[tuple[Group, DistinctCounter]]:
        """Read the distinct contents of each group on each UTC day that the range touches."""
        self._settle()
        part = part or Slice()
        where, values = _where(part, column="day", unit_s=DAY_S)
        with closing(self._connect()) as connection:
            for *columns, state in connection.execute(
                f"SELECT {_KEY}, state FROM distinct_contents WHERE {where}", values
            ):
                yield _group(columns), DistinctCounter.from_bytes(state)

    def uptime(self, part: Slice) -> Uptime:
        """Return how long the service ran in a range of time; names in `part` do not matter."""
        self._settle()
        where, values = _where(Slice(start=part.start, end=part.end))
        with closing(self._connect()) as connection:
            up_ms, idle_uj, byte_s = connection.execute(
                f"SELECT COALESCE(SUM(up_ms), 0), COALESCE(SUM(idle_uj), 0), COALESCE(SUM(stored_byte_s), 0) FROM uptime WHERE {where}",
                values,
            ).fetchone()
        return Uptime(seconds=up_ms / 1e3, idle_joules=idle_uj / 1e6, stored_byte_seconds=float(byte_s))

    def runs(self, part: Slice) -> list[Run]:
        """Return the lives of the service that touch a range of time, the oldest first."""
        self._settle()
        now = time.time()
        with closing(self._connect()) as connection:
            cursor = connection.execute(
                "SELECT started, last_beat, ended, meter FROM runs WHERE last_beat >= ? AND started < ? ORDER BY run",
                (part.start, 2**62 if part.end is None else part.end),
            )
            return [
                Run(
                    started=started,
                    last_beat=last_beat,
                    is_killed=ended is None and now - last_beat > _DEAD_AFTER_S,
                    meter=json.loads(meter),
                )
                for started, last_beat, ended, meter in cursor
            ]

    def _settle(self) -> None:
        """Bring the file up to date before it is read; a reader alone has nothing to add."""

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=10.0)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")  # safe for kill -9; a power loss may lose the last seconds
        return connection


def _group(columns: Sequence[str]) -> Group:
    return Group(*columns[: len(DIMENSIONS)])


def _checked(names: Sequence[str]) -> list[str]:
    unknown = [name for name in names if name not in DIMENSIONS]
    if unknown:
        raise ValueError(f"{', '.join(unknown)}: no dimension of the ledger; there are {', '.join(DIMENSIONS)}")
    return list(names)


def _where(part: Slice, *, column: str = "minute", unit_s: int = MINUTE_S) -> tuple[str, list[int | str]]:
    """Return the condition that chooses a slice, and its values."""
    end = 2**62 if part.end is None else -(-part.end // unit_s)
    conditions, values = [f"{column} >= ?", f"{column} < ?"], [part.start // unit_s, end]
    chosen = {name: getattr(part, name) for name in DIMENSIONS if getattr(part, name)}
    return " AND ".join([*conditions, *[f"{name} = ?" for name in chosen]]), [*values, *chosen.values()]
