"""Counting without a lock, and adding up."""

from __future__ import annotations

import threading

from prometheus_client import CollectorRegistry, generate_latest

from embedder.telemetry import catalogue as metrics
from embedder.telemetry.collector import SnapshotCollector
from embedder.telemetry.metric import Kind, Metric
from embedder.telemetry.tally import Histogram, Snapshot, Tally

_COUNTER = Metric("embedder_tries_total", Kind.COUNTER, "Tries.", ("kind",))
_HISTOGRAM = Metric("embedder_try_seconds", Kind.HISTOGRAM, "Time of a try.", (), (0.1, 1.0))


def test_counts_of_many_threads_add_up_exactly_and_outlive_the_threads() -> None:
    tally = Tally()
    start = threading.Barrier(8)

    def count() -> None:
        start.wait()
        for number in range(5_000):
            tally.add(_COUNTER, 1, ("even" if number % 2 == 0 else "odd",))
            tally.observe(_HISTOGRAM, 0.05)

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        tally.snapshot()  # reading meanwhile loses nothing
    for thread in threads:
        thread.join()
    for _ in range(2):  # threads that have ended are folded in once
        snapshot = tally.snapshot()
        assert snapshot.values[_COUNTER.name, ("even",)] == 20_000
        assert snapshot.values[_COUNTER.name, ("odd",)] == 20_000
        assert snapshot.histograms[_HISTOGRAM.name, ()].counts == [40_000, 0, 0]
    assert len(tally._shards) == 0


def test_observation_on_a_bound_falls_below_it() -> None:
    tally = Tally()
    for value in (0.1, 0.1000001, 1.0, 7.0):
        tally.observe(_HISTOGRAM, value)
    tally.observe_many(_HISTOGRAM, [0.1, 0.1000001, 1.0, 7.0])
    histogram = tally.snapshot().histograms[_HISTOGRAM.name, ()]
    assert histogram.counts == [2, 4, 2]
    assert histogram.total is not None
    assert abs(histogram.total - 2 * 8.2000001) < 1e-9


def test_snapshots_of_several_processes_are_exported_as_their_sum() -> None:
    first, second = Snapshot(), Snapshot()
    first.set(metrics.CACHE_LOOKUPS, 3, ("hit",))
    second.set(metrics.CACHE_LOOKUPS, 4, ("hit",))
    buckets = [0] * (len(metrics.LOOKUP_SECONDS.bounds) + 1)
    buckets[-1] = 2
    for snapshot in (first, second):
        snapshot.histograms[metrics.LOOKUP_SECONDS.name, ("default@1",)] = Histogram(list(buckets), 80.0)
    registry = CollectorRegistry()
    registry.register(SnapshotCollector([lambda: first, lambda: second]))
    text = generate_latest(registry).decode()
    assert 'embedder_cache_lookups_total{outcome="hit"} 7.0' in text
    assert 'embedder_lookup_seconds_bucket{le="30.0",space="default@1"} 0.0' in text
    assert 'embedder_lookup_seconds_bucket{le="+Inf",space="default@1"} 4.0' in text
    assert 'embedder_lookup_seconds_sum{space="default@1"} 160.0' in text
    assert first.values == {(metrics.CACHE_LOOKUPS.name, ("hit",)): 3}
