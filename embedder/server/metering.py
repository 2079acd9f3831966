"""What measures this machine: the meter, and what the ledger charges by the second."""

from __future__ import annotations

import threading

from embedder.encoders.chunk_runner import CHUNK_THREADS
from embedder.encoders.device_clock import CudaClock
from embedder.savings.cpu_clock import ThreadFamilyClock
from embedder.savings.energy import EnergyMeter, open_counter
from embedder.savings.ledger import Gauges, Ledger
from embedder.savings.meter import DeviceMeter, Meter
from embedder_cache import VectorCache


def helper_threads() -> frozenset[int]:
    """Return the native ids of the threads that compute chunks of batches, of every encoder in this process."""
    named = (thread for thread in threading.enumerate() if thread.name.startswith(CHUNK_THREADS))
    return frozenset(thread.native_id for thread in named if thread.native_id)


def open_meter(device: str, helpers: frozenset[int] | None = None) -> DeviceMeter:
    """Return a meter of the clocks and counters that a device, such as `cpu` or `cuda:0`, has.

    Args:
        helpers: native ids of the threads that compute chunks for the encoder; None counts those of every encoder.
    """
    counter = open_counter(device)
    energy = EnergyMeter(counter) if counter else None
    if device.startswith("cuda"):
        return DeviceMeter(clock=CudaClock(device), energy=energy)
    return DeviceMeter(clock=ThreadFamilyClock(pool_name=CHUNK_THREADS, pool=helpers), energy=energy)


def watch(ledger: Ledger, meter: Meter, cache: VectorCache) -> None:
    """Let the ledger charge by the second for the device at rest and the disk under the cache."""

    def gauges() -> Gauges:
        return Gauges(idle_watts=meter.idle_watts, stored_bytes=cache.stats().file_bytes)

    ledger.watch(gauges, meter=meter.description())
