"""Counts that many threads add to without a lock, and snapshots of them that add up over threads and processes."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from embedder.telemetry.metric import Metric

Labels = tuple[str, ...]
Key = tuple[str, Labels]


@dataclass(slots=True)
class Histogram:
    """How many observations fell into each bucket, and what they sum up to.

    Attributes:
        counts: one for each of the metric's bounds, and one for what is above.
        total: sum of the observations; None where it is not known.
    """

    counts: list[int]
    total: float | None = 0.0


@dataclass(slots=True)
class Snapshot:
    """Values of one process at one moment, by metric name and label values; plain data that travels between processes.

    Attributes:
        values: counters and gauges.
        histograms: histograms.
    """

    values: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)

    def set(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Set a value that was read elsewhere."""
        self.values[metric.name, labels] = value

    def merge(self, other: Snapshot) -> None:
        """Add another thread's or process's values to these."""
        for key, value in other.values.items():
            self.values[key] = self.values.get(key, 0) + value
        for key, histogram in other.histograms.items():
            mine = self.histograms.get(key)
            if mine is None:
                self.histograms[key] = Histogram(list(histogram.counts), histogram.total)
                continue
            mine.counts = [one + two for one, two in zip(mine.counts, histogram.counts, strict=True)]
            mine.total = None if mine.total is None or histogram.total is None else mine.total + histogram.total


class Tally:
    """Counters and histograms of one process.

    Each thread adds to values of its own, which only reading adds up: adding takes no lock and waits for nobody. A snapshot taken
    meanwhile misses at most what is being added.
    """

    def __init__(self) -> None:
        self._local = threading.local()
        self._lock = threading.Lock()
        self._shards: list[tuple[threading.Thread, Snapshot]] = []
        self._ended = Snapshot()

    def add(self, metric: Metric, amount: float = 1, labels: Labels = ()) -> None:
        """Add to a counter."""
        values = self._shard().values
        key = (metric.name, labels)
        values[key] = values.get(key, 0) + amount

    def observe(self, metric: Metric, value: float, labels: Labels = ()) -> None:
        """Count one observation into a histogram."""
        histogram = self._histogram(metric, labels)
        histogram.counts[bisect_left(metric.bounds, value)] += 1
        histogram.total += value  # type: ignore[operator]  # a tally's own totals are always known

    def observe_many(
        self, metric: Metric, values: Iterable[float] | npt.NDArray[np.float64], labels: Labels = ()
    ) -> None:
        """Count many observations into a histogram."""
        observed = np.fromiter(values, np.float64)
        places = np.searchsorted(metric.bounds, observed, side="left")
        histogram = self._histogram(metric, labels)
        for place, count in enumerate(np.bincount(places, minlength=len(metric.bounds) + 1).tolist()):
            histogram.counts[place] += count
        histogram.total += float(observed.sum())  # type: ignore[operator]  # as above

    def snapshot(self) -> Snapshot:
        """Add up what all threads have counted, those that have ended included."""
        summed = Snapshot()
        with self._lock:
            running: list[tuple[threading.Thread, Snapshot]] = []
            for thread, shard in self._shards:
                if thread.is_alive():
                    running.append((thread, shard))
                else:
                    self._ended.merge(shard)
            self._shards = running
            summed.merge(self._ended)
            # A copy first: the shard's thread may add a key while the values are read.
            for _, shard in running:
                summed.merge(Snapshot(shard.values.copy(), shard.histograms.copy()))
        return summed

    def _histogram(self, metric: Metric, labels: Labels) -> Histogram:
        histograms = self._shard().histograms
        key = (metric.name, labels)
        histogram = histograms.get(key)
        if histogram is None:
            histogram = histograms[key] = Histogram([0] * (len(metric.bounds) + 1))
        return histogram

    def _shard(self) -> Snapshot:
        try:
            shard: Snapshot = self._local.shard
        except AttributeError:
            shard = self._local.shard = Snapshot()
            with self._lock:
                self._shards.append((threading.current_thread(), shard))
        return shard
