"""Power: what a second of the device's work takes above idle, over a range of the ledger and for single calls."""

from __future__ import annotations

import time
from collections.abc import Sequence

from embedder.savings.figures import Basis, Figure
from embedder.savings.ledger_file import LedgerFile, Run
from embedder.savings.plan import Device
from embedder.savings.usage import Counts, Slice

_NS, _UJ = 1e-9, 1e-6
_RECENT_S = 3_600


def devices_kept_busy(counts: Counts, device: Device | None) -> float:
    """Return how many priced devices a device second keeps busy: where CPU seconds of several cores share one device, less than one."""
    if (device is not None and device.per == "core") or not 0 < counts.wall_ns < counts.device_ns:
        return 1.0
    return counts.wall_ns / counts.device_ns


def watts_above_idle(counts: Counts, device: Device | None, runs: Sequence[Run]) -> Figure | None:
    """Return the power of a priced device at work, less what it takes at rest: metered, else by the power model, else unknown.

    Args:
        counts: what was used.
        device: the row of the savings file; None where it has none for this machine.
        runs: lives of the service in the same time, the oldest first; they say which meter it had.
    """
    worked_s = counts.device_ns * _NS * devices_kept_busy(counts, device)
    if counts.energy_uj and worked_s:
        meter = next((run.meter["energy"] for run in reversed(runs) if "energy" in run.meter), {})
        return Figure(
            counts.energy_uj * _UJ / worked_s,
            Basis(meter.get("basis", Basis.ESTIMATED)),
            "W",
            meter.get("source", "an energy meter"),
            meter.get("boundary", ""),
        )
    if device is None or device.busy_watts is None:
        return None
    idle = device.idle_watts.value if device.idle_watts else 0.0
    busy = device.busy_watts.figure("W")
    return Figure(
        max(0.0, busy.value - idle), Basis.ESTIMATED, "W", f"power model, busy less idle: {busy.source}", busy.boundary
    )


class CallEnergy:
    """Energy of single calls: their device time at the power that the last hour of the ledger shows.

    A call never waits for the ledger, which `refresh` reads; until then, and where it can't be read, what was known holds.
    """

    def __init__(self, ledger: LedgerFile, device: Device | None) -> None:
        """Begin with the power model; `refresh` reads the ledger.

        Args:
            device: the row of the savings file; None where it has none for this machine.
        """
        self._ledger = ledger
        self._device = device
        self._per_second = _joules_a_second(Counts(), device, ())

    def of(self, device_s: float) -> Figure | None:
        """Return the joules above idle of a call's device seconds; None where neither a meter nor a power model is set."""
        watts = self._per_second
        return None if watts is None else watts.times(device_s)

    def refresh(self) -> None:
        """Read what the device took lately; raises what reading the ledger does."""
        part = Slice(start=int(time.time()) - _RECENT_S)
        counts = self._ledger.totals(part).get((), Counts())
        self._per_second = _joules_a_second(counts, self._device, self._ledger.runs(part))


def _joules_a_second(counts: Counts, device: Device | None, runs: Sequence[Run]) -> Figure | None:
    """Return what a second of device time takes above idle, in J; None where it is unknown."""
    watts = watts_above_idle(counts, device, runs)
    if watts is None:
        return None
    source = f"the call's device time x watts above idle: {watts.source}"
    return Figure(watts.value * devices_kept_busy(counts, device), Basis.ESTIMATED, "J", source, watts.boundary)
