"""The savings report onto the wire."""

from __future__ import annotations

from embedder.savings.figures import Basis, Figure
from embedder.savings.report import Agreement, SavingsReport, SavingsRow
from embedder.savings.roads import Rates, Road
from embedder_client.v1 import content_pb2
from embedder_client.v1 import savings_service_pb2 as pb

_BASES = {
    Basis.MEASURED: content_pb2.BASIS_MEASURED,
    Basis.ESTIMATED: content_pb2.BASIS_ESTIMATED,
    Basis.ASSUMED: content_pb2.BASIS_ASSUMED,
}


def report_message(report: SavingsReport) -> pb.GetSavingsResponse:
    """Tell a report."""
    uptime = Figure(report.uptime.seconds, Basis.MEASURED, "s", "the ledger's beats, one a second")
    response = pb.GetSavingsResponse(
        total=_row(report.total),
        rows=[_row(row) for row in report.rows],
        assumptions=report.assumptions,
        formula=_formula(report.agreement),
        sensitivity=[
            pb.SensitivityPoint(hit_rate=point.hit_rate, tasks=point.tasks, saved_share=point.saved_share)
            for point in report.sensitivity
        ],
        notes=report.notes,
        uptime=figure_message(uptime),
        rates=_rates(report.rates),
    )
    if report.end:
        response.start_time.FromSeconds(report.start)
        response.end_time.FromSeconds(report.end)
    for run in report.killed:
        stop = response.unclean_stops.add()
        stop.start_time.FromMilliseconds(round(run.started * 1e3))
        stop.last_write_time.FromMilliseconds(round(run.last_beat * 1e3))
    return response


def figure_message(figure: Figure | None) -> content_pb2.Figure | None:
    """Tell a figure; None stays absent."""
    if figure is None:
        return None
    return content_pb2.Figure(
        value=figure.value,
        basis=_BASES[figure.basis],
        unit=figure.unit,
        source=figure.source,
        boundary=figure.boundary,
    )


def _row(row: SavingsRow) -> pb.SavingsRow:
    counts = row.counts
    unique = Figure(
        row.contents_unique,
        Basis.MEASURED if row.is_unique_exact else Basis.ESTIMATED,
        "1",
        "set of content ids by UTC day" if row.is_unique_exact else "HyperLogLog of content ids by UTC day",
    )
    return pb.SavingsRow(
        group=row.group,
        contents_asked=counts.asked,
        contents_unique=figure_message(unique),
        cache_hits=counts.cache_hits,
        shared_cache_hits=counts.shared_cache_hits,
        in_flight_hits=counts.in_flight_hits,
        encodes=counts.encodes,
        failures=counts.failures,
        device_time=_measured(
            row.device_s,
            "the meter, around each forward pass: CPU time of all cores on a processor, CUDA events on a GPU",
        ),
        head_time=_measured(row.head_s, "wall time of the heads"),
        device_time_unshared=figure_message(row.alternative.seconds),
        device_time_saved=figure_message(row.saved.seconds),
        energy=figure_message(row.shared.joules),
        energy_saved=figure_message(row.saved.joules),
        lookup_time=_measured(row.lookup_s, "wall time of the look-ups"),
        wall_time=_measured(counts.wall_ns * 1e-9, "wall time of the forward passes"),
        shared=_road(row.shared),
        overhead=_road(row.overhead),
        alternative=_road(row.alternative),
        saved=_road(row.saved),
        sci=figure_message(row.sci_g),
    )


def _road(road: Road) -> pb.RoadCost:
    return pb.RoadCost(
        time=figure_message(road.seconds),
        energy=figure_message(road.joules),
        money=figure_message(road.usd),
        operational_carbon=figure_message(road.operational_g),
        embodied_carbon=figure_message(road.embodied_g),
        carbon=figure_message(road.carbon_g),
    )


def _formula(agreement: Agreement) -> pb.SavingsFormula:
    formula = agreement.formula
    return pb.SavingsFormula(
        contents=formula.contents,
        hit_rate=formula.hit_rate,
        encode_time=figure_message(formula.encode_s),
        lookup_time=figure_message(formula.lookup_s),
        heads=[
            pb.HeadTerm(
                head=term.head,
                asked=term.asked,
                head_time=_measured(term.head_s, "mean over what the head was asked"),
                special_time=figure_message(term.special_s),
            )
            for term in formula.heads
        ],
        shared_s=formula.shared_s,
        alternative_s=formula.alternative_s,
        formula_saved_s=agreement.formula_saved_s,
        ledger_saved_s=agreement.ledger_saved_s,
        saved_s=agreement.saved_s,
        difference=agreement.difference,
        tasks=formula.tasks,
        break_even_tasks=formula.break_even_tasks(hit_rate=formula.hit_rate),
        break_even_tasks_uncached=formula.break_even_tasks(hit_rate=0.0),
        break_even_hit_rate=formula.break_even_hit_rate(tasks=formula.tasks),
    )


def _rates(rates: Rates) -> dict[str, content_pb2.Figure]:
    stated = "the savings file, or its default"
    named = {
        "devices": Figure(
            rates.devices, Basis.MEASURED, "1", "priced devices or cores that a device second keeps busy"
        ),
        "watts": rates.watts,
        "usd_per_hour": rates.usd_per_hour,
        "embodied_kg": rates.embodied_kg,
        "g_per_kwh": rates.g_per_kwh,
        "pue": Figure(rates.pue, Basis.ASSUMED, "1", stated),
        "lifespan_years": Figure(rates.lifespan_years, Basis.ASSUMED, "a", stated),
    }
    messages = {name: figure_message(figure) for name, figure in named.items()}
    return {name: message for name, message in messages.items() if message is not None}


def _measured(seconds: float, source: str) -> content_pb2.Figure | None:
    return figure_message(Figure(seconds, Basis.MEASURED, "s", source))
