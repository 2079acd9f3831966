"""What a head learns from: vectors and their targets, as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.kinds import Floats, Task

Target = str | float | Sequence[str] | Sequence[float]
"""One label, several labels, one number or several numbers."""


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Labelled vectors of one space.

    Attributes:
        vectors: (n, dim) float32 unit vectors.
        targets: (n, labels) float32: one 1 a row, any number of 1s a row, or numbers.
        labels: names of the columns of `targets`.
        task: what the targets mean.
    """

    vectors: Floats
    targets: Floats
    labels: tuple[str, ...]
    task: Task

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, rows: npt.NDArray[np.intp]) -> Examples:
        """Return the examples of some rows."""
        return replace(self, vectors=self.vectors[rows], targets=self.targets[rows])

    @property
    def classes(self) -> npt.NDArray[np.intp]:
        """(n,) the column of each row's largest target."""
        classes: npt.NDArray[np.intp] = np.argmax(self.targets, axis=1)
        return classes

    def class_weights(self) -> Floats:
        """Return (n,) weights of mean 1 that give every label the same total; all 1 for regression."""
        if self.task is Task.REGRESSION:
            return np.ones(len(self), np.float32)
        totals = np.maximum(self.targets.sum(axis=0), 1.0)  # (labels,)
        rarity = self.targets / totals  # (n, labels)
        # A row weighs as its rarest label; one without labels as the commonest.
        weights = np.maximum(rarity.max(axis=1), 1.0 / totals.max())
        balanced: Floats = (weights / weights.mean()).astype(np.float32)
        return balanced

    def digest(self) -> str:
        """Name this training set: 64 hex digits over vectors, targets and labels."""
        digest = hashlib.sha256("\0".join(self.labels).encode())
        digest.update(np.ascontiguousarray(self.vectors).tobytes())
        digest.update(np.ascontiguousarray(self.targets).tobytes())
        return digest.hexdigest()


def make_examples(
    vectors: Floats, given: Sequence[Target], *, task: Task, labels: Sequence[str] = (), complete: bool = True
) -> Examples:
    """Turn labels into targets.

    Args:
        vectors: (n, dim) float32 unit vectors.
        given: n labels, lists of labels, numbers or lists of numbers.
        task: what they mean.
        labels: names and order of the outputs; by default those found, sorted, or `score` for a number.
        complete: whether every label must have an example, as learning needs and measuring does not.
    Raises:
        TrainingDataInvalid: there are too few examples or labels, a label is unknown, or a number is not finite.
    """
    if len(vectors) != len(given) or not len(vectors):
        raise TrainingDataInvalid(
            f"{len(vectors)} vectors and {len(given)} labels; there must be as many, and one at least"
        )
    if not np.isfinite(vectors).all():
        raise TrainingDataInvalid("a vector holds NaN or infinity")
    if task is Task.REGRESSION:
        return _numbers(vectors, given, labels)
    listed = [(str(entry),) if isinstance(entry, str | float | int) else tuple(map(str, entry)) for entry in given]
    names = tuple(labels) or tuple(sorted({name for entry in listed for name in entry}))
    if len(names) < (2 if task is Task.SINGLE_LABEL else 1):
        raise TrainingDataInvalid(f"the examples have the labels {list(names)}; a {task} head needs more")
    column = {name: number for number, name in enumerate(names)}
    targets = np.zeros((len(vectors), len(names)), np.float32)
    for row, entry in enumerate(listed):
        if task is Task.SINGLE_LABEL and len(entry) != 1:
            raise TrainingDataInvalid(f"example {row} has {len(entry)} labels; a single-label head needs one")
        for name in entry:
            if name not in column:
                raise TrainingDataInvalid(f"example {row} has the label {name!r}; known are {list(names)}")
            targets[row, column[name]] = 1.0
    empty = [name for name, total in zip(names, targets.sum(axis=0), strict=True) if not total]
    if empty and complete:
        raise TrainingDataInvalid(f"no example has the labels {empty}")
    return Examples(np.ascontiguousarray(vectors, np.float32), targets, names, task)


def _numbers(vectors: Floats, given: Sequence[Target], labels: Sequence[str]) -> Examples:
    try:
        targets = np.array(given, np.float64).reshape(len(given), -1)
    except ValueError as error:
        raise TrainingDataInvalid(f"a regression head learns from numbers: {error}") from error
    if not np.isfinite(targets).all():
        raise TrainingDataInvalid(f"example {int(np.argmax(~np.isfinite(targets).all(axis=1)))} is not a finite number")
    names = tuple(labels) or (
        ("score",) if targets.shape[1] == 1 else tuple(f"score{i}" for i in range(targets.shape[1]))
    )
    if len(names) != targets.shape[1]:
        raise TrainingDataInvalid(f"{len(names)} names for {targets.shape[1]} numbers")
    return Examples(np.ascontiguousarray(vectors, np.float32), targets.astype(np.float32), names, Task.REGRESSION)
