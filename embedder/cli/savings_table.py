"""The savings report as a table for people."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from embedder_client import Basis, Figure, SavingsReport, SavingsRow

_WIDE = 118
_COLUMNS = ("asked", "hits", "encodes", "spent s", "unshared s", "saved")
_WIDE_COLUMNS = (*_COLUMNS, "unique", "cache", "in flight", "failed", "heads s")


def savings_table(report: SavingsReport, *, by: str, width: int) -> RenderableType:
    """Lay a report out: a row for each group, the total, and what the figures rest on.

    Args:
        by: what the rows are made by, for the first column's name.
        width: columns of the terminal; a wide one shows more figures.
    """
    columns = _WIDE_COLUMNS if width >= _WIDE else _COLUMNS
    table = Table(title="Savings: contents × tasks, computed once", title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column(by, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in report.rows:
        if not (row.contents_asked or row.encodes):
            continue
        table.add_row(row.group, *[_cells(row)[column] for column in columns])
    table.add_section()
    table.add_row("total", *[_cells(report.total)[column] for column in columns], style="bold")
    notes = [_window(report), *_left_out(report), *[f"- {line}" for line in report.assumptions]]
    return Group(table, *[Text(note, style="dim") for note in notes])


def _cells(row: SavingsRow) -> dict[str, str]:
    hits = row.cache_hits + row.shared_cache_hits + row.in_flight_hits
    return {
        "asked": f"{row.contents_asked:,}",
        "unique": _figure(row.contents_unique, "{:,.0f}"),
        "hits": f"{hits / row.contents_asked:.1%}" if row.contents_asked else "-",
        "encodes": f"{row.encodes:,}",
        "spent s": _figure(row.device_time, "{:,.2f}"),
        "unshared s": _figure(row.device_time_unshared, "{:,.2f}"),
        "saved": _saved(row),
        "cache": f"{row.cache_hits + row.shared_cache_hits:,}",
        "in flight": f"{row.in_flight_hits:,}",
        "failed": f"{row.failures:,}",
        "heads s": _figure(row.head_time, "{:,.3f}"),
    }


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
    marks = "No mark: measured; ~: estimated; ?: assumed."
    if report.start is None or report.end is None:
        return f"Nothing was counted in this range. {marks}"
    unique = _figure(report.total.contents_unique, "{:,.0f}")
    return f"{unique} different contents, {report.start:%Y-%m-%d %H:%M} to {report.end:%Y-%m-%d %H:%M} UTC. {marks}"


def _left_out(report: SavingsReport) -> list[str]:
    names = [row.group for row in report.rows if not (row.contents_asked or row.encodes)]
    return [f"Asked for no content, heads and indexes only: {', '.join(names)}."] if names else []
