"""How long the ledger stays fine-grained: minutes become hours, hours become days, and what is too old goes."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from embedder.savings.usage import COUNTERS, DIMENSIONS

_MINUTES_A_DAY = 1_440
_KEY = ", ".join(DIMENSIONS)
_SUMS = ", ".join(f"SUM({name})" for name in COUNTERS)


@dataclass(frozen=True, slots=True)
class Retention:
    """How long usage is kept, in days.

    Attributes:
        minute_days: rows by the minute; older ones are added up to hours.
        hour_days: rows by the hour; older ones are added up to days.
        keep_days: rows at all; 0 keeps them for good.
    """

    minute_days: int = 14
    hour_days: int = 400
    keep_days: int = 0


def roll_up(connection: sqlite3.Connection, *, now: float, retention: Retention) -> int:
    """Add old rows up and drop what is too old, in the caller's transaction; totals of what is kept do not change.

    Returns:
        number of rows that were added up into others or dropped.
    """
    today = int(now // 86_400)
    touched = 0
    for days, span in ((retention.minute_days, 60), (retention.hour_days, _MINUTES_A_DAY)):
        touched += _coarsen(connection, before=(today - days) * _MINUTES_A_DAY, span=span)
    if retention.keep_days:
        first_day = today - retention.keep_days
        for table, column, value in (
            ("usage", "minute", first_day * _MINUTES_A_DAY),
            ("uptime", "minute", first_day * _MINUTES_A_DAY),
            ("distinct_contents", "day", first_day),
        ):
            touched += connection.execute(f"DELETE FROM {table} WHERE {column} < ?", (value,)).rowcount
    return touched


def _coarsen(connection: sqlite3.Connection, *, before: int, span: int) -> int:
    """Add rows of a smaller span up to rows of `span` minutes, for whole UTC days before the minute `before`."""
    start = f"minute / {span} * {span}"
    old = (before, span)
    connection.execute(
        f"CREATE TEMP TABLE rolled AS SELECT {start} AS start, {_KEY}, {_SUMS} FROM usage "
        f"WHERE minute < ? AND span_minutes < ? GROUP BY start, {_KEY}",
        old,
    )
    touched = connection.execute("DELETE FROM usage WHERE minute < ? AND span_minutes < ?", old).rowcount
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in COUNTERS)
    columns = connection.execute("SELECT * FROM rolled").fetchall()
    marks = ", ".join("?" * (len(DIMENSIONS) + len(COUNTERS)))
    connection.executemany(f"INSERT INTO usage VALUES (?, {span}, {marks}) ON CONFLICT DO UPDATE SET {added}", columns)
    connection.execute("DROP TABLE rolled")
    uptime = connection.execute(
        f"SELECT {start}, {span}, SUM(up_ms), SUM(idle_uj), SUM(stored_byte_s) FROM uptime "
        f"WHERE minute < ? AND span_minutes < ? GROUP BY 1",
        old,
    ).fetchall()
    connection.execute("DELETE FROM uptime WHERE minute < ? AND span_minutes < ?", old)
    connection.executemany(
        "INSERT INTO uptime VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET up_ms = up_ms + excluded.up_ms, "
        "idle_uj = idle_uj + excluded.idle_uj, stored_byte_s = stored_byte_s + excluded.stored_byte_s",
        uptime,
    )
    return touched
