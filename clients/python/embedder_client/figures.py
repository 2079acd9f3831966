"""Figures that say what they are, what a call cost, and which model answered; and how parts of a call add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from embedder_client.errors import ErrorDetails, FailedPrecondition


class Basis(StrEnum):
    """How a figure is known, surest first."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    ASSUMED = "assumed"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True)
class Figure:
    """A number that says what it is."""

    value: float
    basis: Basis
    unit: str
    source: str
    boundary: str = ""


@dataclass(frozen=True)
class Timings:
    """Wall time of a call in the service, by part, in seconds; of a split call, the longest of its parts."""

    total_s: float = 0.0
    lookup_s: float = 0.0
    queue_s: float = 0.0
    prepare_s: float = 0.0
    encode_s: float = 0.0
    store_s: float = 0.0
    heads_s: float = 0.0


@dataclass(frozen=True)
class BatchShape:
    """One batch on the device, with contents of any call.

    Attributes:
        items: contents in it.
        units: their tokens, or images.
        padding_efficiency: share of the device's work that was no padding, 0 to 1.
    """

    items: int
    units: float
    padding_efficiency: float


@dataclass(frozen=True)
class Cost:
    """What a call cost; a figure that the service did not give is None, and so is `batch` where nothing was computed."""

    device_time: Figure | None
    energy: Figure | None
    device_time_saved: Figure | None
    timings: Timings
    batch: BatchShape | None = None


@dataclass(frozen=True)
class Provenance:
    """Which model made the vectors; vectors of two digests must never be compared."""

    space: str
    space_digest: bytes
    model: str
    numerics: str


_BASES = tuple(Basis)


def sum_figures(figures: Sequence[Figure | None]) -> Figure | None:
    """Add figures of one unit; the sum is only as sure as the least sure, and None if one is missing."""
    known = [figure for figure in figures if figure is not None]
    if not known or len(known) < len(figures):
        return None
    return Figure(
        value=sum(figure.value for figure in known),
        basis=max((figure.basis for figure in known), key=_BASES.index),
        unit=known[0].unit,
        source="; ".join(dict.fromkeys(figure.source for figure in known)),
    )


def sum_costs(costs: Sequence[Cost]) -> Cost:
    """Add the costs of a call's parts: figures are summed, timings are the longest, since parts run side by side."""
    if len(costs) == 1:
        return costs[0]
    return Cost(
        device_time=sum_figures([cost.device_time for cost in costs]),
        energy=sum_figures([cost.energy for cost in costs]),
        device_time_saved=sum_figures([cost.device_time_saved for cost in costs]),
        timings=Timings(
            **{field.name: max(getattr(cost.timings, field.name) for cost in costs) for field in fields(Timings)}
        ),
        batch=next((cost.batch for cost in reversed(costs) if cost.batch is not None), None),
    )


def common_provenance(parts: Sequence[Provenance]) -> Provenance:
    """Return the provenance that all parts of a call share.

    Raises:
        FailedPrecondition: the space changed between the parts, so their vectors can't be compared.
    """
    first = parts[0]
    for part in parts[1:]:
        if part.space_digest != first.space_digest:
            raise FailedPrecondition(
                f"the space changed during the call, from {first.space} ({first.space_digest.hex()[:12]}) to "
                f"{part.space} ({part.space_digest.hex()[:12]}): ask again",
                ErrorDetails(reason="SPACE_CHANGED", domain="embedder_client"),
            )
    return first
