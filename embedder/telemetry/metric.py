"""One metric's declaration: name, kind, meaning, labels and bounds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a metric behaves."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """What one metric is, declared once; the exporter, the docs and the dashboards are checked against it.

    Attributes:
        name: as Prometheus sees it, unit at the end; counters end in `_total`.
        kind: how it behaves.
        help: what it says, for people.
        labels: label names; every one takes few values, and none is a content, a hash, a caller or a task.
        bounds: upper bounds of a histogram's buckets, without infinity.
    """

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """Names of the time series that Prometheus stores for it."""
        if self.kind is Kind.HISTOGRAM:
            return tuple(self.name + suffix for suffix in ("_bucket", "_count", "_sum"))
        return (self.name,)
