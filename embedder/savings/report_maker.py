"""Makes the savings report from the ledger, the savings file and, if one is set, the live grid feed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from operator import attrgetter

from embedder.savings import roads
from embedder.savings.carbon import GridUnreachable, LiveGrid
from embedder.savings.distinct import DistinctCounter
from embedder.savings.figures import Basis, Figure
from embedder.savings.formula import sensitivity
from embedder.savings.ledger_file import LedgerFile, Run, Uptime
from embedder.savings.plan import Device, SavingsPlan, load_plan
from embedder.savings.power import devices_kept_busy, watts_above_idle
from embedder.savings.pricing import Pricing, TaskHead, Usage, merged, summed
from embedder.savings.report import Agreement, GroupBy, SavingsQuery, SavingsReport, SavingsRow
from embedder.savings.roads import Rates, Road, rates_of
from embedder.savings.usage import Counts

_NS = 1e-9


@dataclass(frozen=True)
class ReportMaker:
    """Makes reports from a ledger. Thread-safe.

    Attributes:
        ledger: what was used.
        plan: the savings file.
        device: the device's name by its driver; empty where it is unknown.
        grid: the live feed of grid intensity, if one is set.
    """

    ledger: LedgerFile
    plan: SavingsPlan = field(default_factory=load_plan)
    device: str = ""
    grid: LiveGrid | None = None

    def make(self, query: SavingsQuery) -> SavingsReport:
        """Add the ledger up and price it."""
        part, notes = query.part, list[str]()
        by = () if query.group_by is GroupBy.NONE else (query.group_by.value,)
        usage = self.ledger.totals(part, by=(*by, "task", "head"))
        runs, uptime = self.ledger.runs(part), self.ledger.uptime(part)
        counts = summed(usage.values())
        _, device = self.plan.device_named(self.device)
        rates = self._rates(counts, device, runs, notes)
        pricing = Pricing(self.plan, rates)
        # What the service holds is charged to a part of it by the part of all contents that it asked for.
        everyone = counts if not _is_filtered(query) else summed(self.ledger.totals(_whole(query).part).values())
        share = counts.asked / everyone.asked if everyone.asked else 0.0
        overhead = roads.scale(self._overhead(rates, device, uptime, everyone, notes), share)
        distinct = self._distinct(query)
        total = pricing.row("", merged(usage), overhead, distinct[""])
        formula = pricing.formula(merged(usage))
        agreement = Agreement(formula, ledger_saved_s=total.saved_s, formula_saved_s=formula.saved_s)
        start, end = self.ledger.extent(part)
        return SavingsReport(
            total=total,
            rows=_rows(pricing, usage, overhead, distinct) if by else (),
            start=start,
            end=end,
            agreement=agreement,
            uptime=uptime,
            rates=rates,
            sensitivity=sensitivity(formula),
            killed=tuple(run for run in runs if run.is_killed),
            notes=(*notes, *_disagreement(agreement)),
        )

    def intensity(self, notes: list[str]) -> Figure | None:
        """Return grid intensity in g/kWh from the feed, else by region; an unreachable feed is noted and nothing takes its place."""
        if self.grid is not None:
            try:
                return self.grid.read()
            except GridUnreachable as error:
                notes.append(f"carbon of use is left out: {error}")
                return None
        if self.plan.region:
            return self.plan.regions[self.plan.region].figure("gCO2e/kWh")
        notes.append("carbon of use is left out: the savings file names no region and no grid_feed")
        return None

    def _rates(self, counts: Counts, device: Device | None, runs: list[Run], notes: list[str]) -> Rates:
        watts = watts_above_idle(counts, device, runs)
        if watts is None:
            notes.append("energy is left out: this machine has no energy meter, and no power is known for its device")
        if device is None or device.usd_per_hour is None:
            notes.append("money is left out: no usd_per_hour is known for the device; enter it in the savings file")
        if device is None or device.embodied_kg is None:
            notes.append("carbon of making is left out: no embodied_kg is known for the device")
        if len({str(run.meter) for run in runs if run.meter}) > 1:
            notes.append("the meter changed within this range: energy is the mean over all of it")
        return rates_of(
            self.plan, device, devices=devices_kept_busy(counts, device), watts=watts, g_per_kwh=self.intensity(notes)
        )

    def _overhead(
        self, rates: Rates, device: Device | None, uptime: Uptime, everyone: Counts, notes: list[str]
    ) -> Road:
        idle = None
        if uptime.idle_joules:
            idle = Figure(uptime.idle_joules, Basis.MEASURED, "J", "idle power x run time, by the energy meter")
        elif rates.watts is not None and device is not None and device.idle_watts is not None:
            joules = device.idle_watts.value * _width(everyone, device) * uptime.seconds
            idle = Figure(joules, Basis.ESTIMATED, "J", f"idle power x run time: {device.idle_watts.source}")
        elif rates.watts is not None:
            notes.append("idle energy is not charged: no idle power is known for the device")
            idle = Figure(0.0, Basis.ASSUMED, "J", "idle power is not known, and not charged")
        price = self.plan.usd_per_gib_month
        if price is None:
            notes.append("storage is not charged: the savings file gives no usd_per_gib_month")
        storage = price.figure("USD") if price else None
        return rates.overhead(uptime, busy_s=everyone.device_ns * _NS, idle=idle, storage=storage)

    def _distinct(self, query: SavingsQuery) -> defaultdict[str, DistinctCounter]:
        """Count distinct contents by group; all of them under the empty name."""
        found: defaultdict[str, DistinctCounter] = defaultdict(DistinctCounter)
        name_of = attrgetter(query.group_by.value) if query.group_by is not GroupBy.NONE else None
        everything = DistinctCounter()
        for group, counter in self.ledger.distinct(query.part):
            everything.merge(counter)
            if name_of:
                found[_key(name_of(group))].merge(counter)
        found[""] = everything
        return found


def _rows(
    pricing: Pricing, usage: dict[tuple[str, ...], Counts], overhead: Road, distinct: defaultdict[str, DistinctCounter]
) -> tuple[SavingsRow, ...]:
    groups: defaultdict[str, dict[TaskHead, Counts]] = defaultdict(dict)
    for (name, task, head), counts in usage.items():
        groups[name][task, head] = counts
    asked = summed(usage.values()).asked
    rows = [
        pricing.row(name, own, roads.scale(overhead, _asked(own) / asked if asked else 0.0), distinct[_key(name)])
        for name, own in groups.items()
    ]
    return tuple(sorted(rows, key=lambda row: (-row.saved_s, row.group)))


def _width(counts: Counts, device: Device) -> float:
    """Return how many priced devices stand by: one, or the cores that a batch keeps busy."""
    if device.per == "device" or not counts.wall_ns:
        return 1.0
    return max(1.0, counts.device_ns / counts.wall_ns)


def _key(name: str) -> str:
    """Keep a group without a name, such as calls without a head, apart from the total."""
    return name or "\0"


def _asked(usage: Usage) -> int:
    return summed(usage.values()).asked


def _is_filtered(query: SavingsQuery) -> bool:
    return bool(query.task or query.client or query.tenant or query.head)


def _whole(query: SavingsQuery) -> SavingsQuery:
    return SavingsQuery(start=query.start, end=query.end)


def _disagreement(agreement: Agreement) -> list[str]:
    if agreement.is_agreed:
        return []
    return [
        f"formula and ledger differ by {agreement.difference:.2%}: {agreement.formula_saved_s:.3f} s and "
        f"{agreement.ledger_saved_s:.3f} s saved; the smaller counts. Contents computed for callers that had gone are one cause"
    ]
