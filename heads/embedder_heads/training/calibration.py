"""Calibration: the temperature that makes scores honest, and the thresholds that decide labels."""

from __future__ import annotations

import numpy as np

from embedder_heads.classification import activate
from embedder_heads.kinds import Floats, Task
from embedder_heads.training.losses import mean_loss

_BINS = 15


def fit_temperature(logits: Floats, targets: Floats, task: Task, weights: Floats) -> float:
    """Find the temperature of least loss on held-out logits; 1 for regression.

    Args:
        logits: (n, labels) float32 of examples that the head did not learn from.
        targets: (n, labels) float32.
        task: what they mean.
        weights: (n,) how much each example counts.
    Source: Guo et al. 2017, section 4.2; golden-section search over its logarithm.
    """
    if task is Task.REGRESSION:
        return 1.0
    golden = (5**0.5 - 1) / 2
    low, high = np.log(0.005), np.log(50.0)

    def loss(point: float) -> float:
        return mean_loss(logits / np.float32(np.exp(point)), targets, task, weights)

    left, right = high - golden * (high - low), low + golden * (high - low)
    left_loss, right_loss = loss(left), loss(right)
    while high - low > 1e-3:
        if left_loss < right_loss:
            high, right, right_loss = right, left, left_loss
            left = high - golden * (high - low)
            left_loss = loss(left)
        else:
            low, left, left_loss = left, right, right_loss
            right = low + golden * (high - low)
            right_loss = loss(right)
    return float(np.exp((low + high) / 2))


def scores_of(logits: Floats, task: Task, temperature: float) -> Floats:
    """Turn (n, labels) logits into scores, by the code that serves."""
    scaled = np.ascontiguousarray(logits.T / np.float32(temperature))
    scores: Floats = activate(scaled[None], task)[0].T
    return scores


def best_thresholds(scores: Floats, targets: Floats) -> tuple[float, ...]:
    """Find, per label, the threshold of the best F1 on held-out scores; 0.5 for a label that has no example.

    Args:
        scores: (n, labels) float32.
        targets: (n, labels) float32 of 0 and 1.
    """
    return tuple(_best_threshold(column, goals) for column, goals in zip(scores.T, targets.T, strict=True))


def expected_calibration_error(scores: Floats, targets: Floats) -> float:
    """Return the mean gap between confidence and accuracy of single-label scores, over 15 bins of equal width.

    Source: Naeini et al. 2015.
    """
    confidence = scores.max(axis=1)
    right = targets[np.arange(len(targets)), scores.argmax(axis=1)]
    bins = np.minimum((confidence * _BINS).astype(np.intp), _BINS - 1)
    gaps = np.bincount(bins, confidence - right, _BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _best_threshold(scores: Floats, targets: Floats) -> float:
    positives = targets.sum()
    if not positives:
        return 0.5
    order = np.argsort(-scores, kind="stable")
    sorted_scores = scores[order]
    hits = np.cumsum(targets[order])
    f1 = 2 * hits / (np.arange(1, len(scores) + 1) + positives)
    f1[:-1][sorted_scores[:-1] == sorted_scores[1:]] = -1.0  # equal scores are told apart by no threshold
    best = int(np.argmax(f1))
    below = sorted_scores[best + 1] if best + 1 < len(scores) else 0.0
    return float(np.clip((float(sorted_scores[best]) + float(below)) / 2, 0.0, 1.0))
