"""The ledger file's tables, and how a file of an earlier version becomes one of this version."""

from __future__ import annotations

import sqlite3

from embedder.savings.usage import COUNTERS, DEFAULT_TENANT, DIMENSIONS

SCHEMA_VERSION = 2
_V1_COUNTERS = COUNTERS[:9]
_V1_DIMENSIONS = ("task", "client", "space", "lane")
_KEY = ", ".join(DIMENSIONS)
_KEY_COLUMNS = ", ".join(f"{name} TEXT NOT NULL" for name in DIMENSIONS)

# `span_minutes` is 1, and 60 or 1440 once rolled up; the key holds it, since an hour's row starts where a minute's does.
_TABLES = (
    f"""CREATE TABLE usage (
        minute INTEGER NOT NULL, span_minutes INTEGER NOT NULL, {_KEY_COLUMNS},
        {", ".join(f"{name} INTEGER NOT NULL" for name in COUNTERS)},
        PRIMARY KEY (minute, span_minutes, {_KEY})
    ) WITHOUT ROWID""",
    f"""CREATE TABLE distinct_contents (
        day INTEGER NOT NULL, {_KEY_COLUMNS}, state BLOB NOT NULL, PRIMARY KEY (day, {_KEY})
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL)",
    # A run that never wrote its end was killed: at most the second after its last beat is missing.
    "CREATE TABLE runs (run INTEGER PRIMARY KEY, started REAL NOT NULL, last_beat REAL NOT NULL, ended REAL, meter TEXT NOT NULL)",
    """CREATE TABLE uptime (
        minute INTEGER PRIMARY KEY, span_minutes INTEGER NOT NULL, up_ms INTEGER NOT NULL, idle_uj INTEGER NOT NULL,
        stored_byte_s INTEGER NOT NULL
    )""",
)


class LedgerVersionError(ValueError):
    """The file was written by a newer version of the program."""


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, or bring those of an earlier version up to this one, losing no row; all or nothing.

    Raises:
        LedgerVersionError: the file is newer than this program.
    """
    connection.execute("BEGIN IMMEDIATE")  # two processes that open a new file at once wait for each other
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > SCHEMA_VERSION:
        raise LedgerVersionError(
            f"the savings ledger has schema version {version}; this version of embedder reads up to {SCHEMA_VERSION}: update it"
        )
    if version == SCHEMA_VERSION:
        connection.execute("COMMIT")
        return
    if version == 1:
        for table in ("usage", "distinct_contents"):
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_v1")
    for statement in _TABLES:
        connection.execute(statement)
    if version == 1:
        _take_over_v1(connection)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    connection.execute("COMMIT")


def _take_over_v1(connection: sqlite3.Connection) -> None:
    """Copy the rows of a version that knew no tenant and no head, nor look-ups, CPU time and energy."""
    old, counters = ", ".join(_V1_DIMENSIONS), ", ".join(_V1_COUNTERS)
    # Look-ups were not counted apart: one for each ask.
    added = ", ".join("asked" if name == "lookups" else "0" for name in COUNTERS[len(_V1_COUNTERS) :])
    key = f"{old}, '{DEFAULT_TENANT}', ''"
    connection.execute(f"INSERT INTO usage SELECT minute, 1, {key}, {counters}, {added} FROM usage_v1")
    connection.execute(f"INSERT INTO distinct_contents SELECT day, {key}, state FROM distinct_contents_v1")
    for table in ("usage", "distinct_contents"):
        connection.execute(f"DROP TABLE {table}_v1")
