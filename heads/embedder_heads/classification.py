"""From logits to scores: softmax, sigmoid or nothing, in place, for one head or many of the same shape at once."""

from __future__ import annotations

import numpy as np

from embedder_heads.kinds import Floats, Task

_MAX_LOGIT = 80.0  # exp(80) is finite in float32, and sigmoid(-80) is 0 to every digit that is printed


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
        np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT, out=logits)
        np.negative(logits, out=logits)
        np.exp(logits, out=logits)
        logits += 1.0
        np.reciprocal(logits, out=logits)
    return logits
