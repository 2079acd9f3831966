"""What GetSavings answers: both roads, the formula with its numbers, and what the report could not know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from embedder_client.figures import Figure


@dataclass(frozen=True, kw_only=True)
class RoadCost:
    """What one way of serving cost; a figure that rests on something unknown is None."""

    time: Figure | None = None
    energy: Figure | None = None
    money: Figure | None = None
    operational_carbon: Figure | None = None
    embodied_carbon: Figure | None = None
    carbon: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class SavingsRow:
    """Counters and figures of one group; a figure that the service did not give is None."""

    group: str
    contents_asked: int
    contents_unique: Figure | None
    cache_hits: int
    shared_cache_hits: int
    in_flight_hits: int
    encodes: int
    failures: int
    device_time: Figure | None
    head_time: Figure | None
    device_time_unshared: Figure | None
    device_time_saved: Figure | None
    energy: Figure | None
    energy_saved: Figure | None
    lookup_time: Figure | None = None
    wall_time: Figure | None = None
    shared: RoadCost = field(default_factory=RoadCost)
    overhead: RoadCost = field(default_factory=RoadCost)
    alternative: RoadCost = field(default_factory=RoadCost)
    saved: RoadCost = field(default_factory=RoadCost)
    sci: Figure | None = None


@dataclass(frozen=True, kw_only=True)
class HeadTerm:
    """One head's, or one task's, part of the formula's sums."""

    head: str
    asked: int
    head_time: Figure | None
    special_time: Figure | None


@dataclass(frozen=True, kw_only=True)
class SavingsFormula:
    """The formula with its numbers put in, what it gives, and what the ledger's sums give."""

    contents: int
    hit_rate: float
    encode_time: Figure | None
    lookup_time: Figure | None
    heads: tuple[HeadTerm, ...]
    shared_s: float
    alternative_s: float
    formula_saved_s: float
    ledger_saved_s: float
    saved_s: float
    difference: float
    tasks: float
    break_even_tasks: float | None
    break_even_tasks_uncached: float | None
    break_even_hit_rate: float | None


@dataclass(frozen=True, kw_only=True)
class SensitivityPoint:
    """What would be saved in other circumstances."""

    hit_rate: float
    tasks: int
    saved_share: float


@dataclass(frozen=True, kw_only=True)
class UncleanStop:
    """A run of the service that wrote no end: at most the second after its last write was lost."""

    start: datetime | None
    last_write: datetime | None


@dataclass(frozen=True, kw_only=True)
class SavingsReport:
    """What sharing saved in a time range: the total, its groups with the largest saving first, and what it rests on."""

    total: SavingsRow
    rows: tuple[SavingsRow, ...]
    start: datetime | None
    end: datetime | None
    assumptions: tuple[str, ...]
    formula: SavingsFormula | None = None
    sensitivity: tuple[SensitivityPoint, ...] = ()
    unclean_stops: tuple[UncleanStop, ...] = ()
    notes: tuple[str, ...] = ()
    uptime: Figure | None = None
    rates: Mapping[str, Figure] = field(default_factory=dict)
