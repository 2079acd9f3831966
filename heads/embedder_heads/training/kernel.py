"""Learns kernel heads: ridge regression with a Gaussian kernel, in closed form, at several strengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import cholesky, eigh, solve_triangular

from embedder_heads.kinds import Floats, HeadKind, Task
from embedder_heads.training.examples import Examples
from embedder_heads.training.learner import Learned

RIDGES = (3.0, 1.0, 0.3, 0.1, 0.03)
"""Ridge strengths that are tried; smaller fits closer."""

MAX_LANDMARKS = 2048
"""Examples that the kernel compares with; of more, an even sample of each class (Nyström)."""

_JITTER = 1e-6

Doubles = npt.NDArray[np.float64]


class KernelLearner:
    """A kernel machine: closer than a linear probe where classes are not linearly apart, and dearer to serve.

    Source: Rifkin & Klautau 2004 (one-vs-all regularized least squares); Williams & Seeger 2001 (Nyström).
    """

    settings = len(RIDGES)

    def learn(self, examples: Examples, weights: Floats, *, settings: Sequence[int], seed: int) -> list[Learned]:
        """Learn one head for each strength; one eigendecomposition serves them all."""
        landmarks = np.ascontiguousarray(examples.vectors[_sample(examples, seed)])
        goals = examples.targets.astype(np.float64)
        if examples.task is Task.MULTI_LABEL:
            goals = 2.0 * goals - 1.0  # so that a logit of 0 is the boundary
        ridges = [RIDGES[setting] for setting in settings]
        gamma = kernel_width(examples.vectors)
        solved = _solve(examples.vectors, landmarks, goals, weights, gamma=gamma, ridges=ridges)
        learned = []
        for ridge, (weight, bias) in zip(ridges, solved, strict=True):
            tensors = {
                "landmarks": landmarks,
                "gamma": np.array([gamma], np.float32),
                "weight": np.ascontiguousarray(weight.T, np.float32),
                "bias": bias.astype(np.float32),
            }
            learned.append(
                Learned(HeadKind.KERNEL, tensors, {"gamma": gamma, "ridge": ridge, "landmarks": len(landmarks)})
            )
        return learned


def kernel_width(vectors: Floats) -> float:
    """Return gamma of the kernel exp(-gamma |a - b|^2): one over the vectors' total variance.

    Measured: on the BBC articles a grid of widths around it gains nothing, and choosing among them costs accuracy.
    """
    spread = 1.0 - float(np.square(vectors.mean(axis=0)).sum())  # unit vectors
    return 1.0 / max(spread, 1e-3)


def gaussian(left: Floats, right: Floats, gamma: float) -> Doubles:
    """Return the (n, m) kernel between unit vectors (n, dim) and (m, dim)."""
    cosines = (left @ right.T).astype(np.float64)
    cosines -= 1.0
    cosines *= 2.0 * gamma
    return np.exp(cosines, out=cosines)


def _solve(
    vectors: Floats, landmarks: Floats, goals: Doubles, weights: Floats, *, gamma: float, ridges: Sequence[float]
) -> list[tuple[Doubles, Doubles]]:
    """Return, per ridge, the (landmarks, labels) weights and the (labels,) bias."""
    lower = cholesky(gaussian(landmarks, landmarks, gamma) + _JITTER * np.eye(len(landmarks)), lower=True)
    features = solve_triangular(lower, gaussian(landmarks, vectors, gamma), lower=True).T  # (n, m)
    mean = np.average(features, axis=0, weights=weights)
    middle = np.average(goals, axis=0, weights=weights)
    root = np.sqrt(weights.astype(np.float64))[:, None]
    centred = (features - mean) * root
    values, axes = eigh(centred.T @ centred)
    projected = axes.T @ (centred.T @ ((goals - middle) * root))  # (m, labels)
    solved = []
    for ridge in ridges:
        coefficients = axes @ (projected / (values + ridge)[:, None])
        solved.append((solve_triangular(lower.T, coefficients, lower=False), middle - mean @ coefficients))
    return solved


def _sample(examples: Examples, seed: int) -> npt.NDArray[np.intp]:
    """Return rows of at most MAX_LANDMARKS examples, the same share of each class."""
    count = len(examples)
    if count <= MAX_LANDMARKS:
        return np.arange(count)
    shuffled = np.random.default_rng(seed).permutation(count)
    if examples.task is Task.SINGLE_LABEL:
        shuffled = shuffled[np.argsort(examples.classes[shuffled], kind="stable")]
    places = np.linspace(0, count - 1, MAX_LANDMARKS).astype(np.intp)
    return np.sort(shuffled[places])
