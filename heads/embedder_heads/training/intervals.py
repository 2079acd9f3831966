"""Confidence intervals: Wilson for shares, percentile bootstrap for everything else."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

_Z = 1.959963984540054
RESAMPLES = 500


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share.

    Source: Wilson 1927.
    """
    share = successes / trials
    centre = share + _Z**2 / (2 * trials)
    half = _Z * (share * (1 - share) / trials + _Z**2 / (4 * trials**2)) ** 0.5
    scale = 1 + _Z**2 / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def bootstrap(
    statistic: Callable[[npt.NDArray[np.intp]], float], count: int, *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """Return the 95 % percentile interval of a statistic of rows.

    Args:
        statistic: maps (n,) row numbers, some several times, to the figure.
        count: number of rows.
        seed: of the resampling.
        resamples: how often rows are drawn.
    Source: Efron & Tibshirani 1993, chapter 13.
    """
    generator = np.random.default_rng(seed)
    figures = [statistic(generator.integers(0, count, count)) for _ in range(resamples)]
    finite = [figure for figure in figures if np.isfinite(figure)]
    if not finite:
        return float("-inf"), float("inf")
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)
