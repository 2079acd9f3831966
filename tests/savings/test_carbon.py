"""Carbon, money and the savings file: published examples, and totals that add up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from embedder.errors import ConfigurationError
from embedder.savings.carbon import GridUnreachable, LiveGrid, embodied_g, operational_g, sci
from embedder.savings.figures import Basis
from embedder.savings.ledger import Ledger
from embedder.savings.plan import GridFeed, load_plan
from embedder.savings.report import GroupBy, SavingsQuery
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage import Counts, Group

_PLAN = """
device = "test core"
region = "USA"
pue = 1.2
[devices."test core"]
per = "core"
idle_watts = { value = 1, source = "test", year = 2026 }
busy_watts = { value = 5, source = "test", year = 2026 }
embodied_kg = { value = 10, source = "test", year = 2026 }
usd_per_hour = { value = 0.36, source = "test", year = 2026 }
[usd_per_gib_month]
value = 0.1
source = "test"
year = 2026
[heads.topic]
kind = "figure"
seconds_per_content = 2.0
source = "test"
"""


def test_specification_example() -> None:
    assert embodied_g(total_kg=1_000, hours=1, lifespan_years=4) == pytest.approx(28.5, abs=0.05)


def test_reference_figures_of_a_gpu() -> None:
    plan = load_plan()
    assert plan.regions["USA"].value == 369.5
    assert embodied_g(total_kg=164, hours=1, lifespan_years=4) == pytest.approx(4.68, abs=0.005)
    hour = 700 * 3_600
    assert operational_g(joules=hour, g_per_kwh=plan.regions["USA"].value, pue=1.1) == pytest.approx(284, abs=1)
    assert operational_g(joules=hour, g_per_kwh=plan.regions["SWE"].value, pue=1.1) == pytest.approx(31, abs=0.5)
    assert sci(operational=6.0, embodied=2.0, units=4) == 2.0


def test_every_row_of_the_packaged_tables_has_its_source_and_year() -> None:
    plan = load_plan()
    figures = [*plan.regions.values()]
    for device in plan.devices.values():
        figures += [figure for figure in (device.idle_watts, device.busy_watts, device.embodied_kg) if figure]
        assert device.usd_per_hour is None  # no sourced price is known; the user enters one
    assert all(figure.source and figure.year for figure in figures)


def test_requests_sum_to_the_total_in_every_quantity(tmp_path: Path) -> None:
    (tmp_path / "plan.toml").write_text(_PLAN)
    ledger = Ledger(tmp_path / "savings.sqlite")
    for tenant, asked in (("news", 10), ("shop", 30), ("ads", 7)):
        counts = Counts(asked=asked, encodes=3, device_ns=3 * 10**9, wall_ns=2 * 10**9, head_ns=10**7, lookups=asked)
        ledger.record(Group("topic", "web", "s", "interactive", tenant=tenant, head="topic"), counts)
    maker = ReportMaker(ledger, load_plan(tmp_path / "plan.toml"))
    report = maker.make(SavingsQuery(group_by=GroupBy.TENANT))
    ledger.close()
    total = report.total
    assert sum((row.counts for row in report.rows), start=Counts()) == total.counts
    for road in ("shared", "overhead", "alternative", "saved"):
        for name in ("seconds", "joules", "usd", "operational_g", "embodied_g"):
            parts = [getattr(getattr(row, road), name).value for row in report.rows]
            assert sum(parts) == pytest.approx(getattr(getattr(total, road), name).value, rel=1e-3, abs=1e-12), name
    grams = sum(row.sci_g.value * row.counts.asked for row in report.rows if row.sci_g)
    assert total.sci_g is not None
    assert grams == pytest.approx(total.sci_g.value * total.counts.asked, rel=1e-3)
    assert total.alternative.seconds.value == pytest.approx(47 * 2.0)
    assert total.alternative.seconds.basis is Basis.ASSUMED
    assert total.shared.joules is not None
    assert total.shared.joules.value == pytest.approx(4 * total.shared.seconds.value)
    assert total.shared.usd is not None
    assert total.shared.usd.value == pytest.approx(0.36 * total.shared.seconds.value / 3_600)


def test_what_is_unknown_is_left_out_and_said(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(Group("t", "c", "s", "bulk"), Counts(asked=1, encodes=1, device_ns=5, unshared_ns=5, lookups=1))
    report = ReportMaker(ledger).make(SavingsQuery())
    ledger.close()
    assert report.total.shared.usd is report.total.shared.joules is report.total.sci_g is None
    said = " ".join(report.notes)
    assert all(word in said for word in ("money is left out", "energy is left out", "carbon of use is left out"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('region = "XYZ"', "region='XYZ' is no row"),
        ("pue = 0.5", "pue"),
        ("priec = 1", "priec"),
        ('[heads.topic]\nkind = "figure"', "needs seconds_per_content and source"),
        ("pue = ", "can't be read"),
        ("[devices.x]\nbusy_watts = { value = 3 }", "source"),
    ],
)
def test_mistake_in_the_savings_file_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "plan.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"plan\.toml") as raised:
        load_plan(tmp_path / "plan.toml")
    assert complaint in str(raised.value)


@pytest.fixture
def feed() -> Iterator[tuple[str, list[bytes]]]:
    answers: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers[0])

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_live_feed_is_read_and_kept(feed: tuple[str, list[bytes]]) -> None:
    url, answers = feed
    answers.append(json.dumps({"data": [{"carbonIntensity": 123.4}]}).encode())
    grid = LiveGrid(GridFeed(url=url, field="data.0.carbonIntensity"))
    assert grid.read().value == 123.4
    answers[0] = b"nonsense"
    assert grid.read().value == 123.4


@pytest.mark.parametrize("answer", [b"nonsense", b"{}", b'{"carbonIntensity": "much"}', b'{"carbonIntensity": -1}'])
def test_answer_without_an_intensity_is_a_clear_error(feed: tuple[str, list[bytes]], answer: bytes) -> None:
    url, answers = feed
    answers.append(answer)
    with pytest.raises(GridUnreachable, match=r"127\.0\.0\.1"):
        LiveGrid(GridFeed(url=url)).read()


def test_unreachable_feed_leaves_carbon_out_and_says_why(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "savings.sqlite")
    ledger.record(Group("t", "c", "s", "bulk"), Counts(asked=1))
    report = ReportMaker(ledger, load_plan(), "", LiveGrid(GridFeed(url="http://127.0.0.1:9/"))).make(SavingsQuery())
    ledger.close()
    assert any("127.0.0.1:9/ can't be reached" in note for note in report.notes)
