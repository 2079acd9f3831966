"""The page as people see it, in a real browser before a real service.

With EMBEDDER_SCREENSHOTS=docs/images the pictures of the docs are made again.
"""

from __future__ import annotations

import json
import os
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from embedder.config import load_settings
from embedder.server.service import Service
from embedder.web.page_app import FILES
from embedder_client import Client, Figure

from .conftest import Served, Visit
from .traffic import play, replay_day

WIDE, PHONE = (1280, 900), (390, 844)
OpenPage = Callable[..., Visit]


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Return a function that opens the page; whatever the browser complained of then fails the test."""
    visits: list[Visit] = []

    def open_it(url: str, *, scheme: str = "light", size: tuple[int, int] = WIDE, motion: str = "reduce") -> Visit:
        context = browser.new_context(
            color_scheme=scheme,  # type: ignore[arg-type]
            reduced_motion=motion,  # type: ignore[arg-type]
            viewport={"width": size[0], "height": size[1]},
        )
        visit = Visit(context.new_page())
        visit.watch()
        visits.append(visit)
        visit.open(url)
        return visit

    yield open_it
    wrongs = [wrong for visit in visits for wrong in visit.wrongs]
    for visit in visits:
        visit.page.context.close()
    assert not wrongs


@pytest.fixture(scope="module")
def played(served: Served) -> Served:
    """The service after a load like the demo's."""
    play(served.service.address)
    return served


@pytest.fixture(scope="module")
def replayed(played: Served) -> Served:
    """The service with a day of a trace in its ledger."""
    replay_day(played.runtime)
    return played


def _picture(visit: Visit, name: str, folder: Path) -> None:
    """Take a picture of the whole page; into the docs where EMBEDDER_SCREENSHOTS names their folder."""
    visit.page.wait_for_function("document.fonts.status === 'loaded'")
    path = Path(os.environ.get("EMBEDDER_SCREENSHOTS") or folder) / f"dashboard-{name}.png"
    visit.page.screenshot(path=path, full_page=True)
    assert path.stat().st_size > 10_000


def _assert_accessible(visit: Visit) -> None:
    found = Axe().run(visit.page)
    assert not found.violations_count, found.generate_report()


def test_empty_page_says_how_to_begin(served: Served, open_page: OpenPage, tmp_path: Path) -> None:
    for scheme in ("light", "dark"):
        visit = open_page(served.url, scheme=scheme)
        expect(visit.page.get_by_role("heading", level=1)).to_have_text("Nothing was asked for yet")
        assert f'Client("{served.service.address}")' in visit.page.locator("pre").first.inner_text()
        expect(visit.page.locator("#content")).to_be_hidden()
        _assert_accessible(visit)
        _picture(visit, f"empty-{scheme}", tmp_path)


def test_page_shows_a_first_call_without_being_reloaded(served: Served, open_page: OpenPage) -> None:
    visit = open_page(served.url)
    with Client(served.service.address) as client:
        client.embed(["the first content"], task="first")
    expect(visit.page.locator("[data-figure='contents_asked']")).to_have_attribute("data-value", "1", timeout=30_000)
    visit.page.get_by_role("button", name="Live").click()
    expect(visit.page.get_by_role("button", name="Live")).to_have_attribute("aria-pressed", "false")


def test_figures_are_those_of_get_savings(played: Served, open_page: OpenPage, tmp_path: Path) -> None:
    with Client(played.service.address) as client:
        before = client.savings(group_by="").total
        visit = open_page(played.url)
        by_task, by_tenant = client.savings(group_by="task"), client.savings(group_by="tenant")
    total = by_task.total
    assert visit.number("contents_asked") == total.contents_asked
    assert visit.number("encodes") == total.encodes
    hits = total.cache_hits + total.shared_cache_hits + total.in_flight_hits
    assert visit.number("hit_rate") == pytest.approx(hits / total.contents_asked, rel=1e-12)
    for name in ("time", "energy", "money", "carbon"):
        for road in ("shared", "alternative"):
            figure: Figure = getattr(getattr(total, road), name)
            assert visit.number(f"{road}.{name}") == pytest.approx(figure.value, rel=1e-9), (road, name)
        # What the service holds costs more by the second, so what was saved stands between two answers.
        first, last = getattr(before.saved, name), getattr(total.saved, name)
        slack = 1e-9 * abs(first.value)
        assert last.value - slack <= visit.number(f"saved.{name}") <= first.value + slack, name
    share = float(visit.page.locator(".big").get_attribute("data-value") or "nan")
    assert share == pytest.approx(total.saved.time.value / total.alternative.time.value, rel=1e-9)
    for table, report in (("table-task", by_task), ("table-tenant", by_tenant)):
        assert len(report.rows) > 1
        for row in report.rows:
            assert visit.number(f"{table}:{row.group}") == pytest.approx(row.saved.time.value, rel=1e-9)
    _picture(visit, "demo-light", tmp_path)


def test_every_figure_says_what_it_is(replayed: Served, open_page: OpenPage) -> None:
    visit = open_page(replayed.url)
    bare = visit.page.evaluate(
        """() => [...document.querySelectorAll('[data-figure]')].filter((figure) => {
            const said = `${figure.textContent} ${figure.nextElementSibling?.textContent ?? ''}
              ${figure.closest('table')?.tHead.textContent ?? ''} ${figure.parentElement.textContent}`;
            return !/measured|estimated|assumed/.test(said) && !figure.classList.contains('big');
        }).map((figure) => figure.dataset.figure)"""
    )
    assert bare == []
    assert visit.page.locator("#sentence .badge").count() == 2


@pytest.mark.parametrize(("scheme", "size"), [("light", WIDE), ("dark", WIDE), ("light", PHONE), ("dark", PHONE)])
def test_page_is_accessible_in_both_themes_and_on_a_phone(
    replayed: Served, open_page: OpenPage, tmp_path: Path, scheme: str, size: tuple[int, int]
) -> None:
    visit = open_page(replayed.url, scheme=scheme, size=size)
    assert visit.page.locator("canvas").count() == 5
    assert visit.page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    background = visit.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background))) < 200) == (scheme == "dark")
    _picture(visit, f"day-{scheme}{'-phone' if size == PHONE else ''}", tmp_path)
    _assert_accessible(visit)
    for summary in visit.page.locator("summary").all():
        summary.click()
    _assert_accessible(visit)


def test_everything_is_reached_and_used_by_keyboard(replayed: Served, open_page: OpenPage) -> None:
    visit = open_page(replayed.url)
    page = visit.page
    reached: list[str] = []
    for _ in range(60):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "(() => { const at = document.activeElement; return at === document.body ? '' : "
            "at.id || at.getAttribute('aria-label') || at.value || at.textContent.trim(); })()"
        )
        if not name:
            break
        outline = page.evaluate(
            "(() => { const at = document.activeElement; "
            "return getComputedStyle(at.matches('.spans input') ? at.nextElementSibling : at).outlineStyle; })()"
        )
        assert outline == "solid", f"the focus on {name!r} can't be seen"
        reached.append(name)
    assert reached[0] == "Skip to the figures"
    assert {"all", "live", "theme", "What both roads cost: table", "Savings by task: table", "As a table"} <= set(
        reached
    )
    assert reached.count("As a table") == 5

    page.locator("input[value=all]").focus()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("html[data-span=month]")).to_be_attached()
    page.locator("#theme").focus()
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.keyboard.press("Enter")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("#table-time tbody tr").first).to_be_visible()


def test_every_chart_has_words_and_numbers_beside_it(replayed: Served, open_page: OpenPage) -> None:
    page = open_page(replayed.url).page
    for name in ("time", "source", "even", "carbon", "times"):
        words = page.locator(f"#chart-{name}").get_attribute("aria-label")
        assert words is not None
        assert re.search(r"\d", words)
        assert page.locator(f"#table-{name} tbody tr").count() >= 3


@pytest.mark.parametrize("motion", ["reduce", "no-preference"])
def test_nothing_moves_for_who_asked_for_stillness(replayed: Served, open_page: OpenPage, motion: str) -> None:
    page = open_page(replayed.url, motion=motion).page
    moving = page.evaluate("document.getAnimations().length")
    assert (moving == 0) == (motion == "reduce")


def test_page_asks_nobody_but_its_service_and_runs_nothing_inline(replayed: Served, browser: Browser) -> None:
    page = browser.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(replayed.url)
    page.wait_for_selector("html[data-ready]")
    assert answer is not None
    policy = answer.headers["content-security-policy"]
    page.close()
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    assert all(url.startswith(replayed.url) for url in asked)
    html = (FILES / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|https?://", html)


def test_library_lies_beside_its_licence() -> None:
    script = (FILES / "vendor/echarts.common.min.js").read_text()
    assert "Apache License, Version 2.0" in script[:1_000]
    assert "Apache License" in (FILES / "vendor/echarts.LICENSE").read_text()
    assert "Apache ECharts" in (FILES / "vendor/echarts.NOTICE").read_text()


def _figures(served: Served, span: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{served.url}api/savings?span={span}", timeout=30) as answer:
        told: dict[str, Any] = json.loads(answer.read())
        return told


def test_steps_of_time_add_up_to_the_total(replayed: Served) -> None:
    for span in ("day", "all"):
        told = _figures(replayed, span)
        points = told["series"]["points"]
        assert 2 <= len(points) <= 61
        assert sum(point["asked"] for point in points) == int(told["total"]["contents_asked"])
        assert sum(
            point["computed"] + point["cache"] + point["in_flight"] + point["failed"] for point in points
        ) == sum(point["asked"] for point in points)
        for road in ("shared", "alternative"):
            summed = sum(point[f"{road}_s"] for point in points)
            assert summed == pytest.approx(told["total"][road]["time"]["value"], rel=1e-9)
        again = _figures(replayed, span)["series"]["points"]
        assert [point["asked"] for point in again] == [point["asked"] for point in points]


def test_curve_meets_the_alternative_where_the_report_says(replayed: Served) -> None:
    told = _figures(replayed, "all")
    formula, curve = told["formula"], told["curve"]
    even = formula["break_even_tasks_uncached"]
    wins = [
        task
        for task, shared, alone in zip(curve["tasks"], curve["uncached_s"], curve["alternative_s"], strict=True)
        if alone > shared
    ]
    assert wins[0] - curve["tasks"][1] <= even <= wins[0]


def test_unknown_span_is_told() -> None:
    from embedder.errors import InvalidRequest
    from embedder.server.page_figures import PageFigures
    from embedder.telemetry.tally import Snapshot

    with pytest.raises(InvalidRequest, match="known are hour, day"):
        PageFigures(lambda: pytest.fail("not asked"), Snapshot, target=str).read("year")


def test_page_asks_for_the_token_and_says_when_the_service_is_not_ready(tmp_path: Path, browser: Browser) -> None:
    settings = load_settings(
        listen_address="127.0.0.1:0",
        dashboard=True,
        dashboard_address="127.0.0.1:0",
        data_dir=tmp_path,
        bearer_token="right",
    )
    service = Service(settings)
    service._start_web()
    page = browser.new_page()
    try:
        assert service.web.dashboard_url is not None
        page.goto(service.web.dashboard_url)
        field = page.get_by_label("Bearer token")
        expect(field).to_be_focused()
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_have_text("That token is not the service’s.")
        expect(field).to_be_focused()
        assert not Axe().run(page).violations_count
        field.fill("right")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status")).to_contain_text("is starting")
    finally:
        page.close()
        service._close(grace_s=0)
