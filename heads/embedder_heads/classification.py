"""From logits to scores: softmax, sigmoid or nothing, in place, for one head or many of the same shape at once."""

from __future__ import annotations

import numpy as np

from embedder_heads.kinds import Floats, Task


def activate(logits: Floats, task: Task) -> Floats:
    """Turn logits into scores, in place.

    Args:
        logits: (heads, labels, n) float32, divided by the temperature already.
        task: what the heads' outputs mean.
    Returns:
        The same array: probabilities that sum to 1 over the labels, a probability each, or the numbers as they are.
    """
    if task is Task.SINGLE_LABEL:
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
    elif task is Task.MULTI_LABEL:
        # The logistic function by its half-angle form: it can't overflow, and takes fewer passes over memory.
        logits *= 0.5
        np.tanh(logits, out=logits)
        logits += 1.0
        logits *= 0.5
    return logits
