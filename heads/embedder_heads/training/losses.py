"""Losses of logits against targets, by task."""

from __future__ import annotations

import numpy as np

from embedder_heads.kinds import Floats, Task


def row_losses(logits: Floats, targets: Floats, task: Task) -> Floats:
    """Return (n,) float32: cross-entropy, mean binary cross-entropy, or squared error of (n, labels) logits."""
    wide = logits.astype(np.float64)
    if task is Task.SINGLE_LABEL:
        peak = wide.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(wide - peak).sum(axis=1)) + peak[:, 0]
        losses = log_total - (wide * targets).sum(axis=1)
    elif task is Task.MULTI_LABEL:
        losses = (np.logaddexp(0.0, wide) - wide * targets).mean(axis=1)
    else:
        losses = np.square(wide - targets).mean(axis=1)
    narrow: Floats = losses.astype(np.float32)
    return narrow


def mean_loss(logits: Floats, targets: Floats, task: Task, weights: Floats) -> float:
    """Return the weighted mean of `row_losses`."""
    return float(np.average(row_losses(logits, targets, task), weights=weights))
