"""What `embedder-spaces drift` and `bridge` measured, for a terminal and as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Column, Table

from embedder.cli.space_desk import console
from embedder_heads.metric import Metric

if TYPE_CHECKING:
    from embedder.spaces.drift import DriftReport


def drift_json(report: DriftReport) -> dict[str, object]:
    """Return a drift report as `--json` prints it."""
    told: dict[str, object] = {
        "old": report.old,
        "new": report.new,
        "old_digest": report.old_digest,
        "new_digest": report.new_digest,
        "old_entries": report.old_entries,
        "pairs": report.pairs,
        "k": report.k,
        "neighbour_overlap": asdict(report.overlap),
        "chance": report.chance,
        "linear_cka": report.cka,
        "cosine_rank_correlation": report.rank_correlation,
    }
    heads = report.heads
    if heads is not None:
        told["heads"] = {
            "task": heads.task,
            "old": {name: asdict(metric) for name, metric in heads.old.items()},
            "new": {name: asdict(metric) for name, metric in heads.new.items()},
            "accuracy_change": asdict(heads.accuracy_change),
            "agreement": asdict(heads.agreement),
            "labels": [asdict(change) for change in heads.labels],
        }
    return told


def print_drift(report: DriftReport) -> None:
    """Print a drift report as tables."""
    title = f"from {report.old} to {report.new}, {report.pairs:,} contents that both hold"
    metrics = {f"neighbour overlap at {report.k} (chance {report.chance:.4f})": report.overlap}
    heads = report.heads
    if heads is not None:
        metrics |= {f"head, old space: {name}": metric for name, metric in heads.old.items()}
        metrics |= {f"head, new space: {name}": metric for name, metric in heads.new.items()}
        metrics |= {"accuracy, new less old": heads.accuracy_change, "heads decide alike": heads.agreement}
    print_metrics(title, metrics)
    console.print(f"linear CKA {report.cka:.4f}, rank correlation of cosines {report.rank_correlation:.4f}")
    if heads is not None:
        table = Table("label", "examples", "F1 old", "F1 new", "gained", "lost")
        for one in heads.labels:
            row = (
                one.label,
                str(one.examples),
                f"{one.old_f1:.3f}",
                f"{one.new_f1:.3f}",
                str(one.gained),
                str(one.lost),
            )
            table.add_row(*row)
        Console().print(table)


def print_metrics(title: str, metrics: dict[str, Metric]) -> None:
    """Print metrics by name as one table."""
    table = Table(
        Column("figure", overflow="fold"), "value", "95 % interval", "of", "how", title=title, title_justify="left"
    )
    for name, metric in metrics.items():
        interval = f"{metric.low:.4f} to {metric.high:.4f}"
        table.add_row(name, f"{metric.value:.4f}", interval, f"{metric.samples:,}", metric.method)
    Console().print(table)
