"""Measured qualities of held-out scores, each with its confidence interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score, roc_auc_score

from embedder_heads.kinds import Floats, Task
from embedder_heads.metric import Metric
from embedder_heads.training.calibration import expected_calibration_error
from embedder_heads.training.intervals import bootstrap, wilson

Rows = npt.NDArray[np.intp]


def measure(
    scores: Floats, targets: Floats, task: Task, *, predicted: Floats, method: str, seed: int
) -> dict[str, Metric]:
    """Measure a head on examples that it did not learn from.

    Args:
        scores: (n, labels) float32.
        targets: (n, labels) float32.
        task: what they mean.
        predicted: (n, labels) float32 of 0 and 1, what the head decides; ignored for regression.
        method: how the scores were held out, for the record.
        seed: of the bootstrap.
    """
    count = len(scores)

    def resampled(statistic: Callable[[Rows], float]) -> Metric:
        low, high = bootstrap(statistic, count, seed=seed)
        return Metric(statistic(np.arange(count)), low, high, count, f"{method}, bootstrap")

    if task is Task.REGRESSION:
        return {
            "r2": resampled(lambda rows: _r2(scores[rows], targets[rows])),
            "mean_absolute_error": resampled(lambda rows: float(np.abs(scores[rows] - targets[rows]).mean())),
            "pearson": resampled(lambda rows: _pearson(scores[rows], targets[rows])),
        }
    right = (predicted == targets).all(axis=1)
    low, high = wilson(int(right.sum()), count)
    metrics = {
        "accuracy": Metric(float(right.mean()), low, high, count, f"{method}, Wilson"),
        "macro_f1": resampled(lambda rows: _macro_f1(predicted[rows], targets[rows])),
    }
    if task is Task.SINGLE_LABEL:
        metrics["calibration_error"] = resampled(lambda rows: expected_calibration_error(scores[rows], targets[rows]))
    if task is Task.SINGLE_LABEL and targets.shape[1] == 2:
        metrics["auc"] = resampled(lambda rows: _auc(scores[rows, 1], targets[rows, 1]))
    if task is Task.MULTI_LABEL:
        metrics["mean_average_precision"] = resampled(lambda rows: _mean_precision(scores[rows], targets[rows]))
    return metrics


def decide(scores: Floats, task: Task, thresholds: Floats) -> Floats:
    """Return (n, labels) float32 of 0 and 1: the best label, or every label at or over its threshold."""
    if task is Task.SINGLE_LABEL:
        decided = scores.argmax(axis=1)[:, None] == np.arange(scores.shape[1])
    else:
        decided = scores >= thresholds
    return np.asarray(decided, np.float32)


def _macro_f1(predicted: Floats, targets: Floats) -> float:
    hits = (predicted * targets).sum(axis=0)
    either = predicted.sum(axis=0) + targets.sum(axis=0)
    return float(np.where(either > 0, 2 * hits / np.maximum(either, 1.0), 0.0).mean())


def _auc(scores: Floats, targets: Floats) -> float:
    return float(roc_auc_score(targets, scores)) if 0 < targets.sum() < len(targets) else float("nan")


def _mean_precision(scores: Floats, targets: Floats) -> float:
    present = targets.any(axis=0)
    if not present.any():
        return float("nan")
    return float(average_precision_score(targets[:, present], scores[:, present], average="macro"))


def _r2(scores: Floats, targets: Floats) -> float:
    spread = float(np.square(targets - targets.mean(axis=0)).sum())
    return 1.0 - float(np.square(scores - targets).sum()) / spread if spread else float("nan")


def _pearson(scores: Floats, targets: Floats) -> float:
    left, right = (scores - scores.mean(axis=0)).ravel(), (targets - targets.mean(axis=0)).ravel()
    norm = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / norm if norm else float("nan")
