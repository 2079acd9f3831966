"""The Learner interface: what turns examples into a head's tensors, for each setting that it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from embedder_heads.forward import head_logits
from embedder_heads.kinds import Floats, HeadKind
from embedder_heads.training.examples import Examples


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """What a learner made.

    Attributes:
        kind: kind of head.
        tensors: the kind's tensors.
        notes: the setting, such as the regularization, and what was found on the way.
        curve: (epoch, training loss, validation loss), if the learner walks.
    """

    kind: HeadKind
    tensors: Mapping[str, Floats]
    notes: Mapping[str, str | int | float]
    curve: tuple[tuple[int, float, float], ...] = ()

    def logits(self, vectors: Floats) -> Floats:
        """Return (n, labels) float32 logits, by the code that serves."""
        return head_logits(self.kind, self.tensors, vectors).T


class Learner(Protocol):
    """Learns heads of one kind; which setting is best is for cross-validation to say."""

    @property
    def settings(self) -> int:
        """How many settings there are, from the simplest to the closest fit where that can be said."""
        ...

    def learn(self, examples: Examples, weights: Floats, *, settings: Sequence[int], seed: int) -> list[Learned]:
        """Learn one head for each of `settings`, from examples that weigh `weights` (n,)."""
        ...
