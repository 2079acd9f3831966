"""Ledger files of earlier versions, roll-up, and the service's lives."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from embedder.savings.distinct import DistinctCounter
from embedder.savings.ledger import Gauges, Ledger
from embedder.savings.ledger_file import LedgerFile
from embedder.savings.report import SavingsQuery
from embedder.savings.report_maker import ReportMaker
from embedder.savings.retention import Retention, roll_up
from embedder.savings.schema import LedgerVersionError
from embedder.savings.usage import Counts, Group, Slice, UsageRecord

_DAY_S = 86_400
_GROUP = Group("topic", "web", "default@1", "interactive", tenant="news", head="topic")


def _version_1(path: Path) -> None:
    """Write a file as the first version did."""
    counters = [
        "asked",
        "cache_hits",
        "shared_cache_hits",
        "in_flight_hits",
        "encodes",
        "failures",
        "device_ns",
        "head_ns",
        "unshared_ns",
    ]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(
            "CREATE TABLE usage (minute INTEGER NOT NULL, task TEXT NOT NULL, client TEXT NOT NULL, space TEXT NOT NULL, "
            f"lane TEXT NOT NULL, {', '.join(f'{name} INTEGER NOT NULL' for name in counters)}, "
            "PRIMARY KEY (minute, task, client, space, lane)) WITHOUT ROWID"
        )
        connection.execute(
            "CREATE TABLE distinct_contents (day INTEGER NOT NULL, task TEXT NOT NULL, client TEXT NOT NULL, space TEXT NOT NULL, "
            "lane TEXT NOT NULL, state BLOB NOT NULL, PRIMARY KEY (day, task, client, space, lane)) WITHOUT ROWID"
        )
        connection.execute("CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL)")
        connection.execute("INSERT INTO secrets VALUES ('content-id', ?)", (bytes(range(16)),))
        connection.execute("INSERT INTO usage VALUES (1, 'topic', 'web', 's', 'bulk', 9, 3, 1, 1, 3, 1, 500, 40, 900)")
        connection.execute("INSERT INTO usage VALUES (2, 'search', 'web', 's', 'bulk', 1, 1, 0, 0, 0, 0, 0, 0, 100)")
        state = DistinctCounter().to_bytes()
        connection.execute("INSERT INTO distinct_contents VALUES (0, 'topic', 'web', 's', 'bulk', ?)", (state,))
        connection.execute("PRAGMA user_version = 1")


def test_file_of_the_first_version_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "savings.sqlite"
    _version_1(path)
    for _ in range(2):  # the second opening finds it taken over
        ledger = Ledger(path)
        totals = ledger.totals(Slice(), by=("task", "tenant", "head"))
        days = list(ledger.distinct())
        ledger.close()
    assert totals["topic", "default", ""] == Counts(9, 3, 1, 1, 3, 1, 500, 40, 900, lookups=9)
    assert totals["search", "default", ""].asked == 1
    assert [group.task for group, _ in days] == ["topic"]


def test_newer_file_is_refused_with_both_versions(tmp_path: Path) -> None:
    path = tmp_path / "savings.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(LedgerVersionError, match=r"99.*up to 2"):
        Ledger(path)


def test_roll_up_changes_no_total(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    now = int(time.time())
    for age_days in (0, 1, 20, 21, 500, 501):
        for minute in range(3):
            ledger.add(
                UsageRecord(now - age_days * _DAY_S + 60 * minute, _GROUP, Counts(asked=1 + minute, device_ns=7))
            )
    before = ledger.totals(Slice(), by=("tenant",))
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        assert roll_up(connection, now=now, retention=Retention()) > 0
        assert roll_up(connection, now=now, retention=Retention()) == 0
        spans = dict(connection.execute("SELECT span_minutes, SUM(asked) FROM usage GROUP BY 1"))
    after = ledger.totals(Slice(), by=("tenant",))
    ledger.close()
    assert before == after
    assert spans == {1: 12, 60: 12, 1_440: 12}


def test_what_is_older_than_it_is_kept_goes(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    now = int(time.time())
    for age_days in (0, 30, 90):
        ledger.add(UsageRecord(now - age_days * _DAY_S, _GROUP, Counts(asked=1), bytes(32)))
    ledger.flush()
    with closing(sqlite3.connect(ledger.path)) as connection, connection:
        roll_up(connection, now=now, retention=Retention(keep_days=60))
    assert ledger.totals(Slice())[()].asked == 2
    assert len(list(ledger.distinct())) == 2
    ledger.close()


def test_series_adds_up_to_the_total(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    for second in range(0, 7_200, 90):
        ledger.add(UsageRecord(second, _GROUP, Counts(asked=second)))
    minutes, hours = ledger.series(Slice()), ledger.series(Slice(), step_s=3_600, by="tenant")
    total = ledger.totals(Slice())[()]
    ledger.close()
    assert sum((point.counts for point in minutes), start=Counts()) == total
    assert sum((point.counts for point in hours), start=Counts()) == total
    assert [(point.time, point.group) for point in hours] == [(0, "news"), (3_600, "news")]
    with pytest.raises(ValueError, match="step_s=90"):
        LedgerFile(ledger.path).series(Slice(), step_s=90)


_SERVING = """
import sys, time
from pathlib import Path
from embedder.savings.ledger import Ledger
from embedder.savings.usage import Counts, Group
ledger = Ledger(Path(sys.argv[1]))
while True:
    ledger.record(Group("t", "c", "s", "interactive"), Counts(asked=1))
    print(time.time(), flush=True)
    time.sleep(0.001)
"""


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


def test_kill_during_a_trace_loses_the_last_flush_interval_at_most_and_is_told(tmp_path: Path) -> None:
    path = tmp_path / "savings.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", _SERVING, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    first = float(writer.stdout.readline())
    reader = LedgerFile(path)
    lines = [first]
    while reader.totals(Slice()).get((), Counts()).asked < 50:
        lines.append(float(writer.stdout.readline()))
    os.kill(writer.pid, signal.SIGKILL)
    lines += [float(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    writer.stdout.close()
    run = reader.runs(Slice())[0]
    asked = reader.totals(Slice())[()].asked
    recorded_before_last_write = sum(moment < run.last_beat - 0.05 for moment in lines)
    assert recorded_before_last_write <= asked <= len(lines)
    _wait_until(lambda: reader.runs(Slice())[0].is_killed)
    report = ReportMaker(reader).make(SavingsQuery())
    assert [killed.last_beat for killed in report.killed] == [run.last_beat]


def test_closed_run_was_not_killed_and_uptime_is_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.watch(lambda: Gauges(idle_watts=10.0, stored_bytes=1 << 30), meter={"energy": {"source": "test"}})
    _wait_until(lambda: ledger.uptime(Slice()).seconds > 0.2)
    uptime = ledger.uptime(Slice())
    ledger.close()
    runs = LedgerFile(ledger.path).runs(Slice())
    assert [run.is_killed for run in runs] == [False]
    assert runs[0].meter == {"energy": {"source": "test"}}
    assert 0 < uptime.idle_joules <= 10 * uptime.seconds + 1e-6
    assert uptime.stored_byte_seconds <= uptime.seconds * (1 << 30)
