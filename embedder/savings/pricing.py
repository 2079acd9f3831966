"""Counters into costs: each group's shared road and alternative, and the formula over all of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from embedder.savings import roads
from embedder.savings.distinct import DistinctCounter
from embedder.savings.figures import Basis, Figure, least_sure
from embedder.savings.formula import Formula, HeadTerm
from embedder.savings.plan import SavingsPlan, Special
from embedder.savings.report import SavingsRow
from embedder.savings.roads import Rates, Road
from embedder.savings.usage import Counts

_NS = 1e-9
_SAME_ENCODER = "the same encoder for the task alone, at the measured cost of a batch and of a token or image"

TaskHead = tuple[str, str]
Usage = Mapping[TaskHead, Counts]


@dataclass(frozen=True, slots=True)
class Pricing:
    """Prices counters, by task and head.

    Attributes:
        plan: what each head would cost alone.
        rates: what a second takes.
    """

    plan: SavingsPlan
    rates: Rates

    def row(self, group: str, usage: Usage, overhead: Road, distinct: DistinctCounter) -> SavingsRow:
        """Price one group."""
        counts = summed(usage.values())
        shared, alternative = self.shared(counts), self.alternative(usage)
        saved = roads.subtract(alternative, roads.add(shared, overhead))
        return SavingsRow(
            group=group,
            counts=counts,
            contents_unique=distinct.count(),
            is_unique_exact=distinct.is_exact,
            shared=shared,
            overhead=overhead,
            alternative=alternative,
            saved=saved,
            sci_g=_sci(roads.add(shared, overhead), counts.asked),
        )

    def shared(self, counts: Counts) -> Road:
        """Charge what was measured: encodes, look-ups and heads."""
        seconds = Figure(
            (counts.device_ns + counts.lookup_ns + counts.head_ns) * _NS,
            Basis.MEASURED,
            "s",
            "device time of the forward passes, wall time of the look-ups and the heads",
            "tokenizing, decoding and the network left out",
        )
        return self.rates.road(seconds)

    def alternative(self, usage: Usage) -> Road:
        """Charge what every head would have cost by itself."""
        parts = [self._alternative_seconds(key, counts) for key, counts in usage.items()]
        value = sum(part.value for part in parts)
        basis = least_sure([Basis.ESTIMATED, *[part.basis for part in parts]])
        sources = "; ".join(dict.fromkeys(part.source for part in parts)) or _SAME_ENCODER
        return self.rates.road(Figure(value, basis, "s", sources, "heads and look-ups left out, and nothing kept"))

    def formula(self, usage: Usage) -> Formula:
        """Put the numbers into the formula: means, and the hit rate by what callers were told."""
        total = summed(usage.values())
        terms: dict[str, list[tuple[TaskHead, Counts]]] = {}
        for key, counts in usage.items():
            task, head = key
            if _answered(counts) > 0:
                terms.setdefault(head or task, []).append((key, counts))
        return Formula(
            contents=total.lookups,
            hit_rate=1 - total.computed / total.lookups if total.lookups else 0.0,
            encode_s=Figure(_ratio(total.device_ns, total.encodes), Basis.MEASURED, "s", "mean of the encodes"),
            lookup_s=Figure(_ratio(total.lookup_ns, total.lookups), Basis.MEASURED, "s", "mean of the look-ups"),
            heads=tuple(self._term(name, terms[name]) for name in sorted(terms)),
        )

    def _term(self, name: str, parts: list[tuple[TaskHead, Counts]]) -> HeadTerm:
        asked = sum(_answered(counts) for _, counts in parts)
        seconds = [self._alternative_seconds(key, counts) for key, counts in parts]
        mean = roads.combined(seconds, source=seconds[0].source).times(1 / asked)
        return HeadTerm(name, asked, sum(counts.head_ns for _, counts in parts) * _NS / asked, mean)

    def _alternative_seconds(self, key: TaskHead, counts: Counts) -> Figure:
        task, head = key
        special = self.plan.special(head=head, task=task)
        if special.seconds_per_content is None:
            return Figure(counts.unshared_ns * _NS, Basis.ESTIMATED, "s", _SAME_ENCODER)
        return Figure(_answered(counts) * special.seconds_per_content, _basis(special), "s", _source(special))


def summed(parts: Iterable[Counts]) -> Counts:
    """Add counters up."""
    return sum(parts, start=Counts())


def merged(usage: Mapping[tuple[str, ...], Counts]) -> dict[TaskHead, Counts]:
    """Add up what has the same task and head, which are the last two parts of each key."""
    found: dict[TaskHead, Counts] = {}
    for key, counts in usage.items():
        task_head = (key[-2], key[-1])
        found[task_head] = found.get(task_head, Counts()) + counts
    return found


def _answered(counts: Counts) -> int:
    return counts.asked - counts.failures


def _basis(special: Special) -> Basis:
    return Basis.ESTIMATED if special.kind == "model" else Basis.ASSUMED


def _source(special: Special) -> str:
    model = f"{special.model}, " if special.model else ""
    return f"contents asked x {special.seconds_per_content:g} s: {model}{special.source}"


def _ratio(nanoseconds: int, count: int) -> float:
    return nanoseconds * _NS / count if count else 0.0


def _sci(road: Road, asked: int) -> Figure | None:
    carbon = road.carbon_g
    if carbon is None or not asked:
        return None
    return Figure(
        carbon.value / asked,
        carbon.basis,
        "gCO2e",
        "(E x I + M) / R, ISO/IEC 21031; R is one content that one task asked for",
        "the device and the disk; network, clients and staff left out",
    )
