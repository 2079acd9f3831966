"""The formula with the numbers put in, for people who want to check it."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from embedder_client import Figure, RoadCost, SavingsFormula, SavingsReport, SensitivityPoint


def explained(report: SavingsReport) -> RenderableType:
    """Lay out the formula, the cost of each road, break-even, sensitivity and what is not known."""
    parts: list[RenderableType] = [Text(), Text("The formula, with its numbers", style="bold")]
    if report.formula is None or not report.formula.contents:
        return Group(*parts, Text("Nothing was looked up in this range, so there are no numbers to put in."))
    parts += [Text(line) for line in _formula(report.formula)]
    parts += [Text(line) for line in _break_even(report.formula)]
    parts += [_roads(report), _rates(report), _sensitivity(report.sensitivity)]
    parts += [Text(f"- {note}") for note in report.notes]
    for stop in report.unclean_stops:
        parts.append(
            Text(
                f"- the service was killed after {stop.last_write:%Y-%m-%d %H:%M:%S} UTC: up to one second of counts is missing there"
            )
        )
    return Group(*parts)


def _formula(formula: SavingsFormula) -> list[str]:
    encode, lookup = _value(formula.encode_time), _value(formula.lookup_time)
    shared_head = sum(term.asked * _value(term.head_time) for term in formula.heads)
    lines = [
        "shared      = contents x [(1 - h) x C_encode + C_lookup] + sum of asked x C_head",
        f"            = {formula.contents:,} x [(1 - {formula.hit_rate:.6f}) x {encode:.6g} s + {lookup:.3g} s] + {shared_head:.6g} s",
        f"            = {formula.shared_s:.6g} s",
        "alternative = sum of asked x C_special",
    ]
    for term in formula.heads:
        special = term.special_time
        source = f" [{special.basis.value}: {special.source}]" if special else ""
        lines.append(f"            + {term.asked:,} x {_value(special):.6g} s  {term.head}{source}")
    return [
        *lines,
        f"            = {formula.alternative_s:.6g} s",
        f"saved       = {formula.formula_saved_s:.6g} s by the formula, {formula.ledger_saved_s:.6g} s by the ledger's sums "
        f"({formula.difference:.4%} apart); claimed: {formula.saved_s:.6g} s",
        "",
    ]


def _break_even(formula: SavingsFormula) -> list[str]:
    return [
        f"Break-even: {_tasks(formula.break_even_tasks)} at this hit rate, {_tasks(formula.break_even_tasks_uncached)} with nothing "
        f"cached; today {formula.tasks:.3g} tasks ask for each content that is looked up.",
        "With as many tasks, sharing "
        + (
            "never wins."
            if formula.break_even_hit_rate is None
            else f"wins from a hit rate of {formula.break_even_hit_rate:.1%}."
        ),
        "",
    ]


def _roads(report: SavingsReport) -> Table:
    table = Table(title="Totals, and for each content asked", title_justify="left")
    for column in ("road", "time s", "energy J", "money USD", "carbon g: use", "making", "each, g"):
        table.add_column(column, justify="left" if column == "road" else "right")
    total = report.total
    for name in ("shared", "overhead", "alternative", "saved"):
        road: RoadCost = getattr(total, name)
        each = road.carbon.value / total.contents_asked if road.carbon and total.contents_asked else None
        figures = (road.time, road.energy, road.money, road.operational_carbon, road.embodied_carbon)
        table.add_row(name, *[_shown(figure) for figure in figures], "-" if each is None else f"{each:.3g}")
    return table


def _rates(report: SavingsReport) -> Table:
    table = Table(title="What a second takes", title_justify="left")
    for column in ("figure", "value", "unit", "basis", "source"):
        table.add_column(column, overflow="fold")
    for name, figure in sorted(report.rates.items()):
        table.add_row(name, f"{figure.value:.6g}", figure.unit, figure.basis.value, figure.source)
    return table


def _sensitivity(points: tuple[SensitivityPoint, ...]) -> Table:
    table = Table(
        title="Share saved, by hit rate (down) and tasks for each content (across): estimated", title_justify="left"
    )
    tasks = sorted({point.tasks for point in points})
    table.add_column("hit rate")
    for count in tasks:
        table.add_column(str(count), justify="right")
    shares = {(point.hit_rate, point.tasks): point.saved_share for point in points}
    for rate in sorted({point.hit_rate for point in points}):
        table.add_row(f"{rate:.0%}", *[f"{shares[rate, count]:.0%}" for count in tasks])
    return table


def _tasks(count: float | None) -> str:
    return "never" if count is None else f"{count:.3g} tasks"


def _value(figure: Figure | None) -> float:
    return figure.value if figure else 0.0


def _shown(figure: Figure | None) -> str:
    return "-" if figure is None else f"{figure.value:,.4g} {figure.basis.value[:4]}."
