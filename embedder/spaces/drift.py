"""What changes when one space gives way to another: neighbours, and what heads would learn in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from embedder.errors import InvalidRequest
from embedder.spaces.pairing import PairedVectors
from embedder_heads.metric import Metric
from embedder_heads.training.neighbours import cosine_rank_correlation, linear_cka, mean_metric, neighbour_overlap

if TYPE_CHECKING:
    from embedder_heads.training.classification import HeldOut
    from embedder_heads.training.examples import Examples

_LEAST_PAIRS = 20


@dataclass(frozen=True, slots=True)
class LabelChange:
    """One label, as a head of each space decides it on examples that it did not learn from.

    Attributes:
        label: its name.
        examples: how many have it.
        old_f1: of the head of the old space.
        new_f1: of the head of the new space.
        gained: examples with the label that only the new space's head finds.
        lost: examples with the label that only the old space's head finds.
    """

    label: str
    examples: int
    old_f1: float
    new_f1: float
    gained: int
    lost: int


@dataclass(frozen=True, slots=True, eq=False)
class HeadComparison:
    """Heads of the same making, on the same examples and folds, in both spaces.

    Attributes:
        task: what the labels mean.
        old: metrics of the head of the old space.
        new: metrics of the head of the new space.
        accuracy_change: new less old, over the same examples.
        agreement: share of the examples on which both decide alike.
        labels: what changes for each label.
        flips: (labels, labels) how many examples go from one decision to another; None where a content may have several labels.
    """

    task: str
    old: Mapping[str, Metric]
    new: Mapping[str, Metric]
    accuracy_change: Metric
    agreement: Metric
    labels: tuple[LabelChange, ...]
    flips: npt.NDArray[np.int64] | None


@dataclass(frozen=True, slots=True, eq=False)
class DriftReport:
    """All of it.

    Attributes:
        old: full name of the old space.
        new: full name of the new space.
        old_digest: 64 hex digits.
        new_digest: 64 hex digits.
        old_entries: contents that the old space holds.
        pairs: contents that were compared, held by both.
        k: how many neighbours are compared.
        overlap: the mean neighbour overlap at k.
        chance: the overlap of neighbours drawn at random.
        overlaps: (pairs,) the overlap of each content.
        cka: linear CKA.
        rank_correlation: Spearman's, of cosines.
        heads: where labels were given.
    """

    old: str
    new: str
    old_digest: str
    new_digest: str
    old_entries: int
    pairs: int
    k: int
    overlap: Metric
    chance: float
    overlaps: npt.NDArray[np.float64] = field(repr=False)
    cka: float
    rank_correlation: float
    heads: HeadComparison | None = None


@dataclass(frozen=True, slots=True)
class Compared:
    """Which spaces are compared.

    Attributes:
        old: full name.
        new: full name.
        old_digest: 64 hex digits.
        new_digest: 64 hex digits.
        old_entries: contents that the old space holds.
    """

    old: str
    new: str
    old_digest: str
    new_digest: str
    old_entries: int


def measure_drift(
    spaces: Compared, pairs: PairedVectors, *, k: int, seed: int = 0, heads: HeadComparison | None = None
) -> DriftReport:
    """Compare two spaces on the contents that both hold.

    Args:
        spaces: which they are.
        pairs: the same contents in both.
        k: how many neighbours are compared.
        seed: of what is drawn.
        heads: what heads make of both, where labels were given.
    Raises:
        InvalidRequest: there are too few pairs for so many neighbours.
    """
    least = max(_LEAST_PAIRS, 2 * k)
    if len(pairs) < least:
        raise InvalidRequest(
            f"{spaces.old} and {spaces.new} have {len(pairs)} contents in common; at least {least} are needed for {k} neighbours: "
            "let the new space shadow traffic, or backfill it"
        )
    overlaps = neighbour_overlap(pairs.old, pairs.new, k)
    return DriftReport(
        old=spaces.old,
        new=spaces.new,
        old_digest=spaces.old_digest,
        new_digest=spaces.new_digest,
        old_entries=spaces.old_entries,
        pairs=len(pairs),
        k=k,
        overlap=mean_metric(overlaps, method=f"exact search among {len(pairs)} contents", seed=seed),
        chance=k / (len(pairs) - 1),
        overlaps=overlaps,
        cka=linear_cka(pairs.old, pairs.new),
        rank_correlation=cosine_rank_correlation(pairs.old, pairs.new, seed=seed),
        heads=heads,
    )


def compare_heads(old: Examples, new: Examples, *, seed: int = 0) -> HeadComparison:
    """Train a linear head in each space, on the same examples, folds and seed, and compare what they say of held-out examples.

    Args:
        old: labelled vectors of the old space.
        new: the same examples, in the same order, in the new space.
        seed: of folds and resampling.
    Raises:
        InvalidRequest: there are too few examples to hold any out, or the labels are numbers.
    """
    from embedder_heads.kinds import Task
    from embedder_heads.training.classification import train_head
    from embedder_heads.training.options import HeadChoice, TrainOptions

    if old.task is Task.REGRESSION:
        raise InvalidRequest("drift compares labels; numbers have none")
    options = TrainOptions(choice=HeadChoice.LINEAR, seed=seed)
    trained = [train_head(one, name="drift", space_digest=bytes(32), options=options) for one in (old, new)]
    held = [one.held_out for one in trained]
    if held[0] is None or held[1] is None:
        raise InvalidRequest(f"{len(old)} examples are too few to hold some of each label out")
    right = [(side.predicted == side.targets).all(axis=1) for side in held if side is not None]
    alike = (held[0].predicted == held[1].predicted).all(axis=1)
    method = next(iter(trained[0].head.manifest.metrics.values())).method.partition(",")[0]
    change = right[1].astype(np.float64) - right[0].astype(np.float64)
    return HeadComparison(
        task=str(old.task),
        old=trained[0].head.manifest.metrics,
        new=trained[1].head.manifest.metrics,
        accuracy_change=mean_metric(change, method=f"{method}, paired", seed=seed),
        agreement=mean_metric(alike.astype(np.float64), method=method, seed=seed),
        labels=_label_changes(old.labels, held[0], held[1]),
        flips=_flips(held[0], held[1]) if old.task is Task.SINGLE_LABEL else None,
    )


def _label_changes(labels: tuple[str, ...], old: HeldOut, new: HeldOut) -> tuple[LabelChange, ...]:
    has = old.targets > 0
    found = [side.predicted > 0 for side in (old, new)]
    changes = []
    for column, label in enumerate(labels):
        f1 = [_f1(side[:, column], has[:, column]) for side in found]
        gained = has[:, column] & found[1][:, column] & ~found[0][:, column]
        lost = has[:, column] & found[0][:, column] & ~found[1][:, column]
        changes.append(LabelChange(label, int(has[:, column].sum()), f1[0], f1[1], int(gained.sum()), int(lost.sum())))
    return tuple(sorted(changes, key=lambda change: (change.new_f1 - change.old_f1, change.label)))


def _f1(found: npt.NDArray[np.bool_], has: npt.NDArray[np.bool_]) -> float:
    either = int(found.sum() + has.sum())
    return 2 * int((found & has).sum()) / either if either else 0.0


def _flips(old: HeldOut, new: HeldOut) -> npt.NDArray[np.int64]:
    counts = np.zeros((old.targets.shape[1],) * 2, np.int64)
    np.add.at(counts, (old.predicted.argmax(axis=1), new.predicted.argmax(axis=1)), 1)
    return counts
