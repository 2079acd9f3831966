"""The meter: device seconds, wall seconds and energy of one batch, each with where it comes from and what it covers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from embedder.savings.energy import EnergyMeter
from embedder.savings.figures import Basis, Figure


@dataclass(frozen=True, slots=True)
class Reading:
    """What one batch took.

    Attributes:
        device: seconds of the device; on a processor, CPU seconds of all cores together.
        wall: wall seconds, waiting for the device or its cores counted in.
        energy: joules above idle; None without an energy meter.
    """

    device: Figure
    wall: Figure
    energy: Figure | None = None


class Meter(Protocol):
    """Measures one batch after the other; `begin` and `end` are called by the thread that runs them."""

    @property
    def idle_watts(self) -> float:
        """Power of the device at rest as last measured; 0 where it is not."""
        ...

    def begin(self) -> None:
        """Start a batch."""
        ...

    def end(self) -> Reading:
        """End the batch that was started, and say what it took."""
        ...

    def description(self) -> Mapping[str, Mapping[str, str]]:
        """Return basis, source and boundary of each quantity that is measured, by its name."""
        ...


class DeviceClock(Protocol):
    """Tells the time that a device works, such as by events in its stream."""

    source: str
    boundary: str

    def start(self) -> Any:
        """Mark a moment."""
        ...

    def stop(self, mark: Any) -> float:
        """Return seconds since a mark."""
        ...


class WallClock:
    """Wall time of the thread that runs the forward pass, which waits for it."""

    source = "wall time of the forward pass"
    boundary = "waiting for cores that others use counted in; tokenizing and decoding left out"

    def start(self) -> float:
        """Mark a moment."""
        return time.perf_counter()

    def stop(self, mark: float) -> float:
        """Return seconds since a mark."""
        return time.perf_counter() - mark


class DeviceMeter:
    """Measures with the clock and the counter that the device has."""

    def __init__(self, *, clock: DeviceClock | None = None, energy: EnergyMeter | None = None) -> None:
        self._clock = clock or WallClock()
        self._wall = WallClock()
        self._energy = energy
        self._marks: tuple[Any, float] = (None, 0.0)

    @property
    def idle_watts(self) -> float:
        """Power of the device at rest, the lowest that was seen over a second or more; 0 without an energy meter."""
        return self._energy.idle_watts if self._energy else 0.0

    def begin(self) -> None:
        """Start a batch."""
        if self._energy:
            self._energy.begin()
        self._marks = (self._clock.start(), self._wall.start())

    def end(self) -> Reading:
        """End the batch that was started, and say what it took."""
        mark, wall_mark = self._marks
        device_s = self._clock.stop(mark)
        return Reading(
            device=_measured(device_s, "s", self._clock),
            wall=_measured(self._wall.stop(wall_mark), "s", self._wall),
            energy=_measured(self._energy.end(), "J", self._energy) if self._energy else None,
        )

    def description(self) -> Mapping[str, Mapping[str, str]]:
        """Return basis, source and boundary of each quantity that is measured."""
        parts: dict[str, _Described | None] = {"device": self._clock, "wall": self._wall, "energy": self._energy}
        return {
            name: {"basis": Basis.MEASURED.value, "source": part.source, "boundary": part.boundary}
            for name, part in parts.items()
            if part is not None
        }


class _Described(Protocol):
    source: str
    boundary: str


def _measured(value: float, unit: str, part: _Described) -> Figure:
    return Figure(value, Basis.MEASURED, unit, part.source, part.boundary)
