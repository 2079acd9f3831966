"""Snapshots into what Prometheus scrapes, when it does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from embedder.telemetry.catalogue import CATALOGUE
from embedder.telemetry.metric import Kind, Metric
from embedder.telemetry.tally import Histogram, Labels, Snapshot

Source = Callable[[], Snapshot]


class SnapshotCollector(Collector):
    """Asks every source for its values at each scrape, and adds them up; nothing is counted in between."""

    def __init__(self, sources: Iterable[Source]) -> None:
        """Collect from `sources`: this process's tally, its state, and whatever other processes report."""
        self._sources = tuple(sources)

    def describe(self) -> Iterator[Family]:
        """Name every metric without asking a source."""
        return (_family(metric) for metric in CATALOGUE)

    def collect(self) -> Iterator[Family]:
        """Give every metric that has a value."""
        values = Snapshot()
        for source in self._sources:
            values.merge(source())
        by_name: dict[str, list[tuple[Labels, float | Histogram]]] = {}
        for (name, labels), number in values.values.items():
            by_name.setdefault(name, []).append((labels, number))
        for (name, labels), histogram in values.histograms.items():
            by_name.setdefault(name, []).append((labels, histogram))
        for metric in CATALOGUE:
            if metric.name in by_name:
                yield _filled(metric, sorted(by_name[metric.name], key=lambda sample: sample[0]))


def _family(metric: Metric) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    if metric.kind is Kind.COUNTER:
        return CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
    if metric.kind is Kind.GAUGE:
        return GaugeMetricFamily(metric.name, metric.help, labels=metric.labels)
    return HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)


def _filled(metric: Metric, samples: list[tuple[Labels, float | Histogram]]) -> Family:
    family = _family(metric)
    for labels, value in samples:
        if isinstance(family, HistogramMetricFamily):
            assert isinstance(value, Histogram)
            bounds = [*map(str, metric.bounds), "+Inf"]
            family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.total)
        else:
            assert not isinstance(value, Histogram)
            family.add_metric(labels, value)
    return family
