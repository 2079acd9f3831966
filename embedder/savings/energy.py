"""Energy: the counters that machines have (RAPL, NVML), and the energy of a batch above idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import structlog

_log = structlog.get_logger(__name__)

_POWERCAP = Path("/sys/class/powercap")
# Shorter pauses belong to the work around them: counters lag behind it.
_SHORTEST_REST_S = 1.0


class EnergyCounter(Protocol):
    """A counter of joules that only grows."""

    source: str
    boundary: str

    def joules(self) -> float:
        """Return joules since some moment in the past."""
        ...


class RaplCounter:
    """Running average power limit: the energy counters of the processor packages, where the kernel lets them be read."""

    source = "RAPL package counters"
    boundary = "whole processor packages, other processes counted in; memory, disks and power supply left out"

    def __init__(self, folder: Path = _POWERCAP) -> None:
        self._packages = [
            _RaplPackage(path) for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1
        ]
        if not self._packages:
            raise OSError(f"{folder} holds no RAPL package")
        self.joules()

    def joules(self) -> float:
        """Return joules since this counter was made."""
        return sum(package.microjoules() for package in self._packages) * 1e-6


class _RaplPackage:
    """One package's counter, over the value at which it begins again."""

    def __init__(self, path: Path) -> None:
        self._file = path / "energy_uj"
        self._range = int((path / "max_energy_range_uj").read_text())
        self._last = int(self._file.read_text())
        self._total = 0

    def microjoules(self) -> int:
        now = int(self._file.read_text())
        self._total += (now - self._last) % (self._range + 1)
        self._last = now
        return self._total


class NvmlCounter:
    """NVML's total energy counter of one NVIDIA GPU (Volta and newer)."""

    source = "NVML total energy counter"
    boundary = "the whole card, other processes counted in; host left out. It lags by up to 0.1 s: exact in sum, not for one batch"

    def __init__(self, *, index: int) -> None:
        import pynvml

        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
            self._handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            self.joules()
        except pynvml.NVMLError as error:
            raise OSError(f"NVML tells no energy of GPU {index}: {error}") from error

    def joules(self) -> float:
        """Return joules since the driver was loaded."""
        return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._handle)) * 1e-3


class EnergyMeter:
    """Joules of a batch above what the device takes at rest.

    Rest is the lowest mean power over a pause of a second or more between batches. Until there was one, rest counts as work.
    Energy between batches that follow each other closely belongs to the later one, so that a lagging counter is exact in sum.
    """

    def __init__(self, counter: EnergyCounter, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.source = f"{counter.source}, idle power subtracted"
        self.boundary = counter.boundary
        self.idle_watts = 0.0
        self._counter = counter
        self._clock = clock
        self._since = (clock(), counter.joules())
        self._owed = 0.0

    def begin(self) -> None:
        """Start a batch."""
        now = (self._clock(), self._counter.joules())
        rest_s = now[0] - self._since[0]
        if rest_s >= _SHORTEST_REST_S:
            watts = (now[1] - self._since[1]) / rest_s
            self.idle_watts = min(self.idle_watts or watts, watts)
            self._since = now

    def end(self) -> float:
        """Return the joules above idle since the batch began, never below zero: what is too much is taken off the next."""
        now = (self._clock(), self._counter.joules())
        above = now[1] - self._since[1] - self.idle_watts * (now[0] - self._since[0]) + self._owed
        self._since, self._owed = now, min(0.0, above)
        return max(0.0, above)


def open_counter(device: str, *, kinds: Sequence[str] = ("nvml", "rapl")) -> EnergyCounter | None:
    """Return the energy counter of a device, such as `cpu` or `cuda:0`; None where the machine has none that can be read."""
    try:
        if device.startswith("cuda"):
            return NvmlCounter(index=int(device.partition(":")[2] or 0)) if "nvml" in kinds else None
        return RaplCounter() if "rapl" in kinds else None
    except (OSError, ImportError, ValueError) as error:
        _log.info(
            "no energy meter: energy is estimated where the savings file knows the device's power", reason=str(error)
        )
        return None
