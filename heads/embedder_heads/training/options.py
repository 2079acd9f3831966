"""How to train a head; free of torch and scikit-learn, so that a command line starts quickly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class HeadChoice(StrEnum):
    """Which kind of head to train."""

    AUTO = "auto"
    LINEAR = "linear"
    MLP = "mlp"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True)
class TrainOptions:
    """How to train a head.

    Attributes:
        choice: kind of head; `auto` takes the better of linear and kernel on held-out examples.
        balanced: whether every label counts the same, however rare it is.
        folds: parts that the examples are split into; each is held out once.
        seed: of every split, sample and initial weight.
    """

    choice: HeadChoice = HeadChoice.AUTO
    balanced: bool = False
    folds: int = 5
    seed: int = 0
