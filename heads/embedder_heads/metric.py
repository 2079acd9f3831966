"""One measured quality of what was trained, and how manifests hold it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from embedder_heads.manifest import Fields


@dataclass(frozen=True, slots=True)
class Metric:
    """One measured quality of a head.

    Attributes:
        value: the estimate.
        low: lower end of the 95 % confidence interval.
        high: upper end of it.
        samples: held-out examples behind the estimate.
        method: how it was measured, such as `5-fold, Wilson`.
    """

    value: float
    low: float
    high: float
    samples: int
    method: str


def metrics_document(metrics: Mapping[str, Metric]) -> dict[str, object]:
    """Return metrics by name as JSON holds them."""
    return {name: asdict(metric) for name, metric in metrics.items()}


def read_metrics(fields: Fields) -> dict[str, Metric]:
    """Take the field `metrics`; raises the readers' error type."""
    metrics = {}
    for name, metric in fields.mapping("metrics"):
        value, low, high = metric.number("value"), metric.number("low"), metric.number("high")
        metrics[name] = Metric(value, low, high, metric.integer("samples"), metric.text("method"))
        metric.done()
    return metrics
