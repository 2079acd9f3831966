"""The savings report as a table for people."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from embedder_client import Basis, Figure, SavingsReport, SavingsRow


def savings_table(report: SavingsReport, *, by: str) -> RenderableType:
    """Lay a report out: a row for each group, the total, and what the figures rest on."""
    table = Table(title="Savings: contents × tasks, computed once", title_justify="left", caption_justify="left")
    table.add_column(by.capitalize() if by != "none" else "", overflow="fold")
    for column in ("asked", "unique", "cache", "in flight", "encodes", "failed", "hits", "spent s", "heads s", "unshared s", "saved"):
        table.add_column(column, justify="right")
    for row in report.rows:
        table.add_row(row.group, *_cells(row))
    table.add_section()
    table.add_row("total", *_cells(report.total), style="bold")
    return Group(table, Text(_window(report), style="dim"), *[Text(f"- {line}", style="dim") for line in report.assumptions])


def _cells(row: SavingsRow) -> list[str]:
    hits = row.cache_hits + row.shared_cache_hits + row.in_flight_hits
    return [
        f"{row.contents_asked:,}",
        _figure(row.contents_unique, "{:,.0f}"),
        f"{row.cache_hits + row.shared_cache_hits:,}",
        f"{row.in_flight_hits:,}",
        f"{row.encodes:,}",
        f"{row.failures:,}",
        f"{hits / row.contents_asked:.1%}" if row.contents_asked else "-",
        _figure(row.device_time, "{:,.2f}"),
        _figure(row.head_time, "{:,.3f}"),
        _figure(row.device_time_unshared, "{:,.2f}"),
        _saved(row),
    ]


def _saved(row: SavingsRow) -> str:
    if row.device_time_saved is None or row.device_time_unshared is None or not row.device_time_unshared.value:
        return "-"
    return f"{row.device_time_saved.value / row.device_time_unshared.value:.1%}{_mark(row.device_time_saved)}"


def _figure(figure: Figure | None, form: str) -> str:
    return "-" if figure is None else form.format(figure.value) + _mark(figure)


def _mark(figure: Figure) -> str:
    """Mark what is not measured: ~ estimated, ? assumed."""
    return {Basis.MEASURED: "", Basis.ESTIMATED: "~"}.get(figure.basis, "?")


def _window(report: SavingsReport) -> str:
    marks = "no mark: measured, ~ estimated, ? assumed"
    if report.start is None or report.end is None:
        return f"Nothing was counted in this range. {marks}"
    return f"From {report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC. {marks}"
