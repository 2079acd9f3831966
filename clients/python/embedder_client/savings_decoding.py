"""GetSavings' answer from its message."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from embedder_client import savings
from embedder_client.decoding import figure_of, figure_or_none, time_or_none

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from embedder_client.v1 import savings_service_pb2 as pb

_ROADS = ("shared", "overhead", "alternative", "saved")


def savings_report(message: pb.GetSavingsResponse) -> savings.SavingsReport:
    """Decode the savings of a time range."""
    return savings.SavingsReport(
        total=_row(message.total),
        rows=tuple(_row(row) for row in message.rows),
        start=time_or_none(message, "start_time"),
        end=time_or_none(message, "end_time"),
        assumptions=tuple(message.assumptions),
        formula=_formula(message.formula) if message.HasField("formula") else None,
        sensitivity=tuple(
            savings.SensitivityPoint(hit_rate=point.hit_rate, tasks=point.tasks, saved_share=point.saved_share)
            for point in message.sensitivity
        ),
        unclean_stops=tuple(
            savings.UncleanStop(
                start=time_or_none(stop, "start_time"), last_write=time_or_none(stop, "last_write_time")
            )
            for stop in message.unclean_stops
        ),
        notes=tuple(message.notes),
        uptime=figure_or_none(message, "uptime"),
        rates={name: figure_of(figure) for name, figure in message.rates.items()},
    )


def _row(message: pb.SavingsRow) -> savings.SavingsRow:
    values: dict[str, Any] = {}
    for field in fields(savings.SavingsRow):
        if field.name in _ROADS:
            values[field.name] = _road(getattr(message, field.name))
        elif "Figure" in str(field.type):
            values[field.name] = figure_or_none(message, field.name)
        else:
            values[field.name] = getattr(message, field.name)
    return savings.SavingsRow(**values)


def _road(message: pb.RoadCost) -> savings.RoadCost:
    return savings.RoadCost(**{field.name: figure_or_none(message, field.name) for field in fields(savings.RoadCost)})


def _formula(message: pb.SavingsFormula) -> savings.SavingsFormula:
    return savings.SavingsFormula(
        contents=message.contents,
        hit_rate=message.hit_rate,
        encode_time=figure_or_none(message, "encode_time"),
        lookup_time=figure_or_none(message, "lookup_time"),
        heads=tuple(
            savings.HeadTerm(
                head=term.head,
                asked=term.asked,
                head_time=figure_or_none(term, "head_time"),
                special_time=figure_or_none(term, "special_time"),
            )
            for term in message.heads
        ),
        shared_s=message.shared_s,
        alternative_s=message.alternative_s,
        formula_saved_s=message.formula_saved_s,
        ledger_saved_s=message.ledger_saved_s,
        saved_s=message.saved_s,
        difference=message.difference,
        tasks=message.tasks,
        break_even_tasks=_number_or_none(message, "break_even_tasks"),
        break_even_tasks_uncached=_number_or_none(message, "break_even_tasks_uncached"),
        break_even_hit_rate=_number_or_none(message, "break_even_hit_rate"),
    )


def _number_or_none(message: Message, name: str) -> float | None:
    return getattr(message, name) if message.HasField(name) else None
