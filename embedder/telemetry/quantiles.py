"""Quantiles of a histogram, as far as its buckets tell."""

from __future__ import annotations

from collections.abc import Sequence

from embedder.telemetry.metric import Metric
from embedder.telemetry.tally import Histogram


def quantile(metric: Metric, histogram: Histogram, share: float) -> float | None:
    """Estimate the value below which a share of the observations lies.

    Within a bucket, observations are taken as evenly spread, as Prometheus does; above the last bound, as the bound itself.

    Returns:
        the value; None without observations.
    """
    total = sum(histogram.counts)
    if not total:
        return None
    rank, below = share * total, 0
    for place, count in enumerate(histogram.counts):
        if count and below + count >= rank:
            return _inside(metric.bounds, place, (rank - below) / count)
        below += count
    return metric.bounds[-1]


def _inside(bounds: Sequence[float], place: int, share: float) -> float:
    if place == len(bounds):
        return bounds[-1]
    lower = bounds[place - 1] if place else 0.0
    return lower + share * (bounds[place] - lower)
