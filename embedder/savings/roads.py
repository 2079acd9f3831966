"""A road's cost in time, energy, money and carbon: seconds multiplied by what a second takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embedder.savings.carbon import HOURS_PER_YEAR, embodied_g, operational_g
from embedder.savings.figures import Basis, Figure, least_sure
from embedder.savings.ledger_file import Uptime
from embedder.savings.plan import Device, SavingsPlan

_HOUR_S = 3_600.0
_MONTH_S = HOURS_PER_YEAR / 12 * _HOUR_S
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Road:
    """What one way of serving cost; a figure that rests on something unknown is None.

    Attributes:
        seconds: device time, look-ups and heads.
        joules: energy of that time above idle.
        usd: price of that time.
        operational_g: grams of CO2 equivalent of the energy.
        embodied_g: grams of the making of what was used, for that time.
    """

    seconds: Figure
    joules: Figure | None = None
    usd: Figure | None = None
    operational_g: Figure | None = None
    embodied_g: Figure | None = None

    @property
    def carbon_g(self) -> Figure | None:
        """Grams in all: both parts, or None where one is unknown, since half a sum would look like a small one."""
        if self.operational_g is None or self.embodied_g is None:
            return None
        return combined([self.operational_g, self.embodied_g], source="operational and embodied")


QUANTITIES = ("seconds", "joules", "usd", "operational_g", "embodied_g")


@dataclass(frozen=True, slots=True)
class Rates:
    """What one second of the device's work takes, on either road; None where it is unknown.

    Attributes:
        devices: priced devices that one device second keeps busy: 1, or less where a second is one of a core and the whole is priced.
        watts: above idle, for a device or a core.
        usd_per_hour: for a device or a core.
        embodied_kg: for a device or a core.
        g_per_kwh: of the grid.
    """

    devices: float
    watts: Figure | None
    usd_per_hour: Figure | None
    embodied_kg: Figure | None
    g_per_kwh: Figure | None
    pue: float
    lifespan_years: float

    def road(self, seconds: Figure) -> Road:
        """Charge device seconds."""
        worked = seconds.value * self.devices
        joules = _product(self.watts, worked, unit="J", basis=seconds.basis, source="seconds x watts above idle")
        usd = _product(
            self.usd_per_hour, worked / _HOUR_S, unit="USD", basis=seconds.basis, source="hours x price of an hour"
        )
        embodied = None
        if self.embodied_kg is not None:
            embodied = Figure(
                embodied_g(total_kg=self.embodied_kg.value, hours=worked / _HOUR_S, lifespan_years=self.lifespan_years),
                least_sure([seconds.basis, self.embodied_kg.basis]),
                "gCO2e",
                f"{self.embodied_kg.value:g} kg over {self.lifespan_years:g} years: {self.embodied_kg.source}",
                self.embodied_kg.boundary,
            )
        return Road(seconds, joules, usd, self._operational(joules), embodied)

    def _operational(self, joules: Figure | None) -> Figure | None:
        if joules is None or self.g_per_kwh is None:
            return None
        return Figure(
            operational_g(joules=joules.value, g_per_kwh=self.g_per_kwh.value, pue=self.pue),
            least_sure([joules.basis, self.g_per_kwh.basis]),
            "gCO2e",
            f"energy x PUE {self.pue:g} x {self.g_per_kwh.value:g} g/kWh: {self.g_per_kwh.source}",
        )

    def overhead(self, uptime: Uptime, *, busy_s: float, idle: Figure | None, storage: Figure | None) -> Road:
        """Charge what the shared road holds whether or not anybody asks: the device at rest, and the disk under the cache.

        Args:
            busy_s: seconds in which the device worked, charged to who asked.
            idle: joules of the device at rest; None where no energy is known at all.
            storage: USD for a GiB over a month; None charges no disk.
        """
        rest_s = Figure(
            max(0.0, uptime.seconds - busy_s), Basis.MEASURED, "s", "the service's run time less the device's work"
        )
        rest = self.road(rest_s.times(1 / self.devices))
        usd = rest.usd
        if storage is not None:
            held = Figure(
                uptime.stored_byte_seconds / _GIB / _MONTH_S * storage.value,
                storage.basis,
                "USD",
                f"cache, GiB months x {storage.value:g} USD: {storage.source}",
            )
            usd = held if usd is None else combined([usd, held], source="device at rest, and the cache's disk")
        # No seconds: a device at rest is not working. Its price, energy and making are what it costs.
        none = Figure(0.0, Basis.MEASURED, "s", "a device at rest does no work")
        return Road(none, idle, usd, self._operational(idle), rest.embodied_g)


def rates_of(
    plan: SavingsPlan, device: Device | None, *, devices: float, watts: Figure | None, g_per_kwh: Figure | None
) -> Rates:
    """Look up what a second takes.

    Args:
        watts: power above idle while the device works, where a meter or a power model gave it; for a core where the device is one.
    """
    known = device or Device()
    return Rates(
        devices=devices,
        watts=watts,
        usd_per_hour=known.usd_per_hour.figure("USD/h") if known.usd_per_hour else None,
        embodied_kg=known.embodied_kg.figure("kg") if known.embodied_kg else None,
        g_per_kwh=g_per_kwh,
        pue=plan.pue,
        lifespan_years=plan.lifespan_years,
    )


def add(*roads: Road) -> Road:
    """Add roads up, quantity by quantity; what one does not know, the sum does not know."""
    return _by_quantity(roads, source="sum of the parts")


def subtract(road: Road, other: Road) -> Road:
    """Return what the first costs more than the second."""
    return _by_quantity((road, scale(other, -1.0)), source="alternative less shared, with overhead")


def scale(road: Road, share: float) -> Road:
    """Return a road multiplied by an exact number."""
    parts: dict[str, Any] = {name: getattr(road, name) for name in QUANTITIES}
    return Road(**{name: figure and figure.times(share) for name, figure in parts.items()})


def combined(figures: Sequence[Figure], *, source: str) -> Figure:
    """Add figures of one unit."""
    value, basis = sum(figure.value for figure in figures), least_sure([figure.basis for figure in figures])
    return Figure(value, basis, figures[0].unit, source)


def _by_quantity(roads: Sequence[Road], *, source: str) -> Road:
    joined: dict[str, Any] = {}
    for name in QUANTITIES:
        figures = [getattr(road, name) for road in roads]
        joined[name] = None if None in figures else combined(figures, source=source)
    return Road(**joined)


def _product(rate: Figure | None, amount: float, *, unit: str, basis: Basis, source: str) -> Figure | None:
    if rate is None:
        return None
    return Figure(rate.value * amount, least_sure([rate.basis, basis]), unit, f"{source}: {rate.source}", rate.boundary)
