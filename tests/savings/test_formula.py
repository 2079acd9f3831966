"""The formula: its identity with the ledger, break-even, and traces."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder.savings.figures import Basis, Figure
from embedder.savings.formula import Formula, HeadTerm, sensitivity
from embedder.savings.ledger import Ledger
from embedder.savings.replay import Costs, TraceRow, given_seconds, replay_trace
from embedder.savings.report import SavingsQuery
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage import Counts, Group


def _s(value: float) -> Figure:
    return Figure(value, Basis.ASSUMED, "s", "test")


def _formula(*, hit_rate: float = 0.0, special_s: float = 1.0, heads: int = 1) -> Formula:
    terms = tuple(HeadTerm(f"head-{number}", 100, 0.0, _s(special_s)) for number in range(heads))
    return Formula(100, hit_rate, encode_s=_s(7.0), lookup_s=_s(0.0), heads=terms)


def test_published_break_even_of_seven_tasks_against_distilled_models() -> None:
    # A shared encoder that costs seven of the distilled models pays from seven tasks on.
    assert _formula(heads=6).saved_s < 0
    assert _formula(heads=7).saved_s == pytest.approx(0.0)
    assert _formula(heads=8).saved_s > 0
    assert _formula().break_even_tasks(hit_rate=0.0) == pytest.approx(7.0)
    assert _formula().break_even_tasks(hit_rate=0.9) == pytest.approx(0.7)


def test_break_even_hit_rate_is_where_nothing_is_saved() -> None:
    rate = _formula().break_even_hit_rate(tasks=2)
    assert rate is not None
    assert _formula().saved_share(hit_rate=rate, tasks=2) == pytest.approx(0.0)
    assert _formula().break_even_hit_rate(tasks=8) == 0.0


def test_sharing_never_wins_where_a_head_costs_as_much_as_a_model() -> None:
    dear = Formula(100, 0.99, _s(1.0), _s(0.0), (HeadTerm("dear", 100, 2.0, _s(1.0)),))
    assert dear.break_even_tasks(hit_rate=1.0) is None
    assert dear.break_even_hit_rate(tasks=100) is None


def test_sensitivity_rises_with_hit_rate_and_tasks() -> None:
    shares = {(point.hit_rate, point.tasks): point.saved_share for point in sensitivity(_formula())}
    assert shares[0.0, 1] == pytest.approx(-6.0)
    assert shares[0.99, 125] > shares[0.99, 1] > shares[0.5, 1]


def _report(tmp_path: Path, counts: Counts):  # type: ignore[no-untyped-def]
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(Group("t", "c", "s", "bulk", head="topic"), counts)
    report = ReportMaker(ledger).make(SavingsQuery())
    ledger.close()
    return report


def test_formula_and_ledger_agree_when_every_encode_was_answered(tmp_path: Path) -> None:
    counts = Counts(
        asked=1_000, cache_hits=900, in_flight_hits=40, encodes=60, lookups=1_000, device_ns=6 * 10**9, lookup_ns=10**7,
        head_ns=10**8, unshared_ns=10**11,
    )  # fmt: skip
    agreement = _report(tmp_path, counts).agreement
    assert agreement.ledger_saved_s == pytest.approx(100 - 6 - 0.01 - 0.1)
    assert agreement.formula_saved_s == pytest.approx(agreement.ledger_saved_s, rel=1e-9)
    assert agreement.is_agreed


def test_disagreement_is_said_and_the_smaller_saving_claimed(tmp_path: Path) -> None:
    # 30 contents were computed for callers that had gone: the ledger charges them, what callers were told does not.
    counts = Counts(asked=100, cache_hits=90, encodes=40, lookups=100, device_ns=40 * 10**9, unshared_ns=100 * 10**9)
    report = _report(tmp_path, counts)
    assert report.agreement.ledger_saved_s == pytest.approx(60.0)
    assert report.agreement.formula_saved_s == pytest.approx(90.0)
    assert report.agreement.saved_s == pytest.approx(60.0)
    assert any("formula and ledger differ" in note for note in report.notes)


def _costs() -> Costs:
    encode = given_seconds(1.0, "encode")
    return Costs(encode=encode, lookup=_s(0.0), head=_s(0.0), special=encode)


def test_trace_through_a_large_cache_computes_each_content_once() -> None:
    rows = [TraceRow(float(second), str(second % 10), f"task-{second % 3}") for second in range(300)]
    found = replay_trace(rows, cache_bytes=1 << 20, bytes_per_vector=1_024, costs=_costs())
    assert (found.requests, found.contents, found.encodes, found.evictions) == (300, 10, 10, 0)
    assert found.formula.saved_s == pytest.approx(290.0)
    assert len(found.formula.heads) == 3


def test_small_cache_drops_what_was_used_longest_ago() -> None:
    rows = [TraceRow(float(number), content, "t") for number, content in enumerate("abacab")]
    found = replay_trace(rows, cache_bytes=2_048, bytes_per_vector=1_024, costs=_costs())
    assert (found.encodes, found.evictions) == (4, 2)  # a, b, c (b goes), b again (c goes); a stays throughout
    assert replay_trace(rows, cache_bytes=0, bytes_per_vector=1, costs=_costs()).encodes == 6
