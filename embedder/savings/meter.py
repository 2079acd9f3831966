"""The meter: device seconds, CPU seconds and energy of one batch, each with where it comes from and what it covers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from embedder.savings.cpu_clock import ThreadFamilyClock
from embedder.savings.energy import EnergyMeter
from embedder.savings.figures import Basis, Figure


@dataclass(frozen=True, slots=True)
class Reading:
    """What one batch took.

    Attributes:
        device: device seconds.
        cpu: CPU seconds, all cores together; None where the work is not the processor's, or can't be told apart.
        energy: joules above idle; None without an energy meter.
    """

    device: Figure
    cpu: Figure | None = None
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
    """Measures with the clocks and counters that the machine has."""

    def __init__(
        self,
        *,
        clock: DeviceClock | None = None,
        cpu: ThreadFamilyClock | None = None,
        energy: EnergyMeter | None = None,
    ) -> None:
        self._clock = clock or WallClock()
        self._cpu = cpu
        self._energy = energy
        self._mark: Any = None
        self._cpu_start_s = 0.0

    @property
    def idle_watts(self) -> float:
        """Power of the device at rest, the lowest that was seen over a second or more; 0 without an energy meter."""
        return self._energy.idle_watts if self._energy else 0.0

    def begin(self) -> None:
        """Start a batch."""
        if self._energy:
            self._energy.begin()
        if self._cpu:
            self._cpu_start_s = self._cpu.seconds()
        self._mark = self._clock.start()

    def end(self) -> Reading:
        """End the batch that was started, and say what it took."""
        seconds = self._clock.stop(self._mark)
        return Reading(
            device=Figure(seconds, Basis.MEASURED, "s", self._clock.source, self._clock.boundary),
            cpu=self._read_cpu(),
            energy=self._read_energy(),
        )

    def _read_cpu(self) -> Figure | None:
        if self._cpu is None:
            return None
        seconds = self._cpu.seconds() - self._cpu_start_s
        return Figure(seconds, Basis.MEASURED, "s", self._cpu.source, self._cpu.boundary)

    def _read_energy(self) -> Figure | None:
        if self._energy is None:
            return None
        return Figure(self._energy.end(), Basis.MEASURED, "J", self._energy.source, self._energy.boundary)

    def description(self) -> Mapping[str, Mapping[str, str]]:
        """Return basis, source and boundary of each quantity that is measured."""
        parts = {"device": self._clock, "cpu": self._cpu, "energy": self._energy}
        return {
            name: {"basis": Basis.MEASURED.value, "source": part.source, "boundary": part.boundary}
            for name, part in parts.items()
            if part is not None
        }
