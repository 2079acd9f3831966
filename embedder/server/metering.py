"""What measures this machine, and what its seconds cost: the meter, the savings file and the report that stands on both."""

from __future__ import annotations

from pathlib import Path

from embedder.encoders.chunk_runner import CHUNK_THREADS
from embedder.encoders.device_clock import CudaClock, device_name
from embedder.savings.carbon import LiveGrid
from embedder.savings.cpu_clock import ThreadFamilyClock
from embedder.savings.energy import EnergyMeter, open_counter
from embedder.savings.ledger import Gauges, Ledger
from embedder.savings.meter import DeviceMeter, Meter
from embedder.savings.plan import SavingsPlan
from embedder.savings.report_maker import ReportMaker
from embedder_cache import VectorCache

_CPU_INFO = Path("/proc/cpuinfo")


def open_meter(device: str) -> DeviceMeter:
    """Return a meter of the clocks and counters that a device, such as `cpu` or `cuda:0`, has."""
    counter = open_counter(device)
    energy = EnergyMeter(counter) if counter else None
    if device.startswith("cuda"):
        return DeviceMeter(clock=CudaClock(device), energy=energy)
    return DeviceMeter(clock=ThreadFamilyClock(pool_name=CHUNK_THREADS), energy=energy)


def open_report(plan: SavingsPlan, ledger: Ledger, *, device: str) -> ReportMaker:
    """Stand the report on the savings file and the ledger."""
    grid = LiveGrid(plan.grid_feed) if plan.grid_feed else None
    return ReportMaker(ledger, plan, device_name(device) or _processor_name(), grid)


def watch(ledger: Ledger, meter: Meter, cache: VectorCache) -> None:
    """Let the ledger charge by the second for the device at rest and the disk under the cache."""

    def gauges() -> Gauges:
        return Gauges(idle_watts=meter.idle_watts, stored_bytes=cache.stats().file_bytes)

    ledger.watch(gauges, meter=meter.description())


def _processor_name() -> str:
    """Return the processor's name by the kernel; empty where that is not told."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
