"""Splits of examples: stratified where there are classes, and the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import KFold, StratifiedKFold

from embedder_heads.kinds import Task
from embedder_heads.training.examples import Examples

Rows = npt.NDArray[np.intp]


def possible_folds(examples: Examples, wanted: int) -> int:
    """Return how many folds the examples allow, at most `wanted`; below 2, nothing can be held out."""
    if examples.task is Task.SINGLE_LABEL:
        return min(wanted, int(examples.targets.sum(axis=0).min()))
    return min(wanted, len(examples))


def split_folds(examples: Examples, folds: int, *, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """Yield (training rows, held-out rows) for each fold; `folds` is one that `possible_folds` gave, 2 at least."""
    if examples.task is Task.SINGLE_LABEL:
        yield from StratifiedKFold(folds, shuffle=True, random_state=seed).split(examples.vectors, examples.classes)
    else:
        yield from KFold(folds, shuffle=True, random_state=seed).split(examples.vectors)
