"""The ledger and the report: exact totals, kept over a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from embedder.savings.distinct import DistinctCounter
from embedder.savings.ledger import Ledger
from embedder.savings.report import GroupBy, SavingsQuery, SavingsReport
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage import Counts, Group
from embedder_client.content_hash import hash_texts

_TOPIC = Group("topic", "ranker", "default@1", "interactive")
_SEARCH = Group("search", "web", "default@1", "interactive")


def make_report(ledger: Ledger, query: SavingsQuery) -> SavingsReport:
    return ReportMaker(ledger).make(query)


def _texts(*numbers: int) -> bytes:
    return hash_texts([f"text {number}" for number in numbers])


def test_groups_add_up_to_the_total_to_the_last_digit(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    generator = np.random.default_rng(0)
    for group in (_TOPIC, _SEARCH) * 50:
        ledger.record(group, Counts(*[int(value) for value in generator.integers(0, 2**40, 9)]))
    report = make_report(ledger, SavingsQuery(group_by=GroupBy.TASK))
    ledger.close()
    assert {row.group for row in report.rows} == {"topic", "search"}
    assert report.rows[0].counts + report.rows[1].counts == report.total.counts


def test_counts_survive_a_restart(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(_TOPIC, Counts(asked=3, encodes=2), _texts(1, 2, 2))
    ledger.close()
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(_SEARCH, Counts(asked=2, cache_hits=2), _texts(2, 3))
    report = make_report(ledger, SavingsQuery(group_by=GroupBy.CLIENT))
    ledger.close()
    assert report.total.counts == Counts(asked=5, encodes=2, cache_hits=2)
    assert report.total.contents_unique == 3
    assert report.total.is_unique_exact
    assert {row.group: row.contents_unique for row in report.rows} == {"ranker": 2, "web": 2}


def test_time_range_and_filters_choose_what_is_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(_TOPIC, Counts(asked=1))
    ledger.record(_SEARCH, Counts(asked=10))
    now = int(time.time())
    assert make_report(ledger, SavingsQuery(task="topic")).total.counts.asked == 1
    assert make_report(ledger, SavingsQuery(client="web")).total.counts.asked == 10
    assert make_report(ledger, SavingsQuery(end=now - 3600)).total.counts.asked == 0
    assert make_report(ledger, SavingsQuery(start=now - 3600)).total.counts.asked == 11
    ledger.close()


def test_saving_is_unshared_less_spent_with_heads_charged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(
        _TOPIC, Counts(asked=4, encodes=1, device_ns=2_000_000_000, head_ns=500_000_000, unshared_ns=8_000_000_000)
    )
    total = make_report(ledger, SavingsQuery()).total
    ledger.close()
    assert total.saved_s == pytest.approx(5.5)


def test_ledger_file_names_no_content(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(_TOPIC, Counts(asked=1), _texts(1))
    ledger.close()
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert _texts(1)[:8] not in stored
    assert (tmp_path / "savings.sqlite").stat().st_mode & 0o077 == 0


_WRITER = """
import sys, time
from pathlib import Path
from embedder.savings.ledger import Ledger
from embedder.savings.usage import Counts, Group
ledger = Ledger(Path(sys.argv[1]))
group = Group("t", "c", "s", "interactive")
for number in range(1, 10**9):
    ledger.record(group, Counts(asked=1))
    if number % 100 == 0:
        ledger.flush()
        print(number, flush=True)
"""


def test_kill_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "savings.sqlite"
    writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    flushed = 0
    for _ in range(20):
        flushed = int(writer.stdout.readline())
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    ledger = Ledger(path)
    asked = make_report(ledger, SavingsQuery()).total.counts.asked
    ledger.close()
    assert asked >= flushed


@pytest.mark.parametrize("count", [0, 1, 1_000, 65_536])
def test_distinct_counter_is_exact_up_to_its_limit(count: int) -> None:
    counter = DistinctCounter()
    ids = np.random.default_rng(1).permutation(np.arange(count, dtype=np.uint64))
    counter.add(ids)
    assert not counter.add(ids)
    assert (counter.count(), counter.is_exact) == (count, True)


def test_distinct_counter_estimates_beyond_and_merges() -> None:
    ids = np.random.default_rng(2).integers(0, 2**64, 300_000, dtype=np.uint64)
    left, right = DistinctCounter(), DistinctCounter()
    left.add(ids[:200_000])
    right.add(ids[100_000:])
    few = DistinctCounter()
    few.add(ids[:10])
    few.merge(left)
    few.merge(DistinctCounter.from_bytes(right.to_bytes()))
    assert not few.is_exact
    assert few.count() == pytest.approx(300_000, rel=0.04)
