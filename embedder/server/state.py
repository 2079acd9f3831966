"""What the service is like at a moment, read when somebody scrapes: queues, cache, heads, and the ledger's totals."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version

from embedder.engine.contents import Lane
from embedder.savings.ledger import Ledger
from embedder.savings.usage import Counts, Slice
from embedder.server.runtime import Runtime
from embedder.telemetry import catalogue as metrics
from embedder.telemetry.tally import Histogram, Snapshot
from embedder_cache import CacheStats

_NS = 1e-9
# What is older than this is final: a record reaches the ledger's file within a second, or a few when the disk is slow.
_SETTLED_S = 600
_CACHE_EVENTS = (
    "written", "already_held", "refused", "damaged", "expired", "deleted", "copied_forward", "evicted", "rotations", "quarantined",
)  # fmt: skip


class ServiceState:
    """Reads a service's gauges and totals; costs nothing until it is asked."""

    def __init__(self, *, runtime: Callable[[], Runtime | None], is_serving: Callable[[], bool]) -> None:
        """Read a service.

        Args:
            runtime: its objects; None while it starts or drains.
            is_serving: what its health says.
        """
        self._runtime = runtime
        self._is_serving = is_serving
        self._totals: LedgerTotals | None = None
        self._lock = threading.Lock()

    def snapshot(self) -> Snapshot:
        """Read everything now."""
        values = Snapshot()
        values.set(metrics.SERVING, int(self._is_serving()))
        runtime = self._runtime()
        if runtime is None:
            return values
        values.set(metrics.START_TIME, runtime.started_at)
        values.set(metrics.HEADS, len(runtime.heads.snapshot.served()))
        values.set(metrics.INDEXES, len(runtime.indexes.listing()))
        for space in runtime.spaces:
            info = space.info
            labels = (version("embedder"), space.name, info.model_id, info.numerics, info.device)
            values.set(metrics.INFO, 1, labels)
            values.set(metrics.IN_FLIGHT_ITEMS, space.engine.in_flight, (space.name,))
            for lane in Lane:
                queued_s = space.engine.queued_s(lane)
                values.set(metrics.QUEUE_DEVICE_SECONDS, queued_s, (space.name, lane.name.lower()))
        limits_ms = {Lane.INTERACTIVE: runtime.settings.max_queue_ms, Lane.BULK: runtime.settings.max_bulk_queue_ms}
        for lane, limit_ms in limits_ms.items():
            values.set(metrics.QUEUE_LIMIT_SECONDS, limit_ms / 1_000, (lane.name.lower(),))
        _add_cache(values, runtime.cache.stats())
        with self._lock:  # two scrapes at once read the ledger once
            self._totals = self._totals or LedgerTotals(runtime.ledger)
            _add_ledger(values, self._totals.read())
        return values


class LedgerTotals:
    """Sums a ledger up, reading each settled minute once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._settled = Counts()
        self._settled_until = 0

    def read(self) -> Counts:
        """Return the counters of all time."""
        until = int(time.time() - _SETTLED_S) // 60 * 60
        self._settled += self._sum(start=self._settled_until, end=until)
        self._settled_until = until
        return self._settled + self._sum(start=until, end=None)

    def _sum(self, *, start: int, end: int | None) -> Counts:
        return self._ledger.totals(Slice(start=start, end=end)).get((), Counts())


def _add_cache(values: Snapshot, stats: CacheStats) -> None:
    values.set(metrics.CACHE_ENTRIES, stats.entries)
    values.set(metrics.CACHE_BYTES, stats.file_bytes)
    values.set(metrics.CACHE_LIMIT_BYTES, stats.max_bytes)
    values.set(metrics.CACHE_QUEUED_BYTES, stats.queued_bytes)
    values.set(metrics.CACHE_LOOKUPS, stats.hits, ("hit",))
    values.set(metrics.CACHE_LOOKUPS, stats.misses, ("miss",))
    for event in _CACHE_EVENTS:
        values.set(metrics.CACHE_EVENTS, getattr(stats, event), (event,))
    values.histograms[metrics.CACHE_HIT_AGE_SECONDS.name, ()] = Histogram(_age_buckets(stats.hits_by_age), None)


def _age_buckets(hits_by_age: tuple[int, ...]) -> list[int]:
    """Put counts of ages below 1, 2, 4, ... seconds into the metric's coarser buckets."""
    bounds = metrics.CACHE_HIT_AGE_SECONDS.bounds
    counts = [0] * (len(bounds) + 1)
    for power, hits in enumerate(hits_by_age):
        bucket = next((place for place, bound in enumerate(bounds) if 1 << power <= bound), len(bounds))
        counts[bucket] += hits
    return counts


def _add_ledger(values: Snapshot, counts: Counts) -> None:
    answered: Mapping[str, int] = {
        "cache": counts.cache_hits,
        "shared_cache": counts.shared_cache_hits,
        "in_flight": counts.in_flight_hits,
        "failed": counts.failures,
    }
    values.set(metrics.LEDGER_ASKED, counts.asked)
    for source, count in answered.items():
        values.set(metrics.LEDGER_ANSWERED, count, (source,))
    values.set(metrics.LEDGER_ENCODES, counts.encodes)
    values.set(metrics.LEDGER_DEVICE_SECONDS, counts.device_ns * _NS)
    values.set(metrics.LEDGER_HEAD_SECONDS, counts.head_ns * _NS)
    values.set(metrics.LEDGER_UNSHARED_SECONDS, counts.unshared_ns * _NS)
