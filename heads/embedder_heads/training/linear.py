"""Learns linear heads: logistic or ridge regression, at several strengths of regularization."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, Ridge
from threadpoolctl import threadpool_limits

from embedder_heads.kinds import Floats, HeadKind, Task
from embedder_heads.training.examples import Examples
from embedder_heads.training.learner import Learned

STRENGTHS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse L2 strengths that are tried; larger fits closer."""

_MAX_ITERATIONS = 1000
_CERTAIN_LOGIT = 4.0

_Layer = tuple[Floats, Floats]


class LinearLearner:
    """A linear probe: (labels, dim) weights on unit vectors.

    Source: Alain & Bengio 2017, section 3 (linear probes).
    """

    settings = len(STRENGTHS)

    def learn(self, examples: Examples, weights: Floats, *, settings: Sequence[int], seed: int) -> list[Learned]:
        """Learn one head for each strength; convex, so the seed plays no part."""
        del seed
        strengths = [STRENGTHS[setting] for setting in settings]
        # One thread: on 5 x 384 weights the threads' waiting for each other costs far more than they bring.
        with threadpool_limits(1):
            if examples.task is Task.SINGLE_LABEL:
                layers = [_as_softmax(*layer) for layer in _logistic(examples, examples.classes, weights, strengths)]
            elif examples.task is Task.MULTI_LABEL:
                columns = [_logistic(examples, column, weights, strengths) for column in examples.targets.T]
                layers = [_joined(rows) for rows in zip(*columns, strict=True)]
            else:
                layers = [_ridge(examples, weights, strength) for strength in strengths]
        return [
            Learned(HeadKind.LINEAR, {"weight": weight, "bias": bias}, {"inverse_l2_strength": strength})
            for strength, (weight, bias) in zip(strengths, layers, strict=True)
        ]


def _logistic(
    examples: Examples, classes: npt.NDArray[np.generic], weights: Floats, strengths: Sequence[float]
) -> list[_Layer]:
    if len(np.unique(classes)) == 1:  # every example has this label, or none: its logit is a constant
        bias = np.full(1, _CERTAIN_LOGIT if classes[0] else -_CERTAIN_LOGIT, np.float32)
        return [(np.zeros((1, examples.vectors.shape[1]), np.float32), bias)] * len(strengths)
    layers = []
    model = LogisticRegression(
        max_iter=_MAX_ITERATIONS, warm_start=True
    )  # each strength starts where the last one ended
    for strength in strengths:
        model.set_params(C=strength).fit(examples.vectors, classes, sample_weight=weights)
        layers.append((model.coef_.astype(np.float32), model.intercept_.astype(np.float32)))
    return layers


def _as_softmax(weight: Floats, bias: Floats) -> _Layer:
    if len(bias) > 1:
        return weight, bias
    # Two classes share one logit: half of it each way is the same softmax.
    half = np.float32(0.5)
    return np.concatenate([-weight, weight]) * half, np.concatenate([-bias, bias]) * half


def _joined(rows: Sequence[_Layer]) -> _Layer:
    return np.concatenate([row[0] for row in rows]), np.concatenate([row[1] for row in rows])


def _ridge(examples: Examples, weights: Floats, strength: float) -> _Layer:
    model = Ridge(alpha=1.0 / strength).fit(examples.vectors, examples.targets, sample_weight=weights)
    return np.atleast_2d(model.coef_).astype(np.float32), np.atleast_1d(model.intercept_).astype(np.float32)
