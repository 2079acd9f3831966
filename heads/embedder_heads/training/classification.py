"""Trains a head on labelled vectors: cross-validated, calibrated, then learned from everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.head_file import Head, HeadManifest
from embedder_heads.kinds import Floats, HeadKind, Task
from embedder_heads.metric import Metric
from embedder_heads.training.calibration import best_thresholds, fit_temperature, scores_of
from embedder_heads.training.examples import Examples
from embedder_heads.training.folds import Rows, possible_folds, split_folds
from embedder_heads.training.kernel import KernelLearner
from embedder_heads.training.learner import Learned, Learner
from embedder_heads.training.linear import LinearLearner
from embedder_heads.training.losses import mean_loss
from embedder_heads.training.mlp import MlpLearner
from embedder_heads.training.options import HeadChoice, TrainOptions
from embedder_heads.training.quality import decide, measure

_LEARNERS: Final[dict[HeadKind, Learner]] = {
    HeadKind.LINEAR: LinearLearner(),
    HeadKind.KERNEL: KernelLearner(),
    HeadKind.MLP: MlpLearner(),
}


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """What heads of the same making said about examples that they did not learn from.

    Attributes:
        scores: (n, labels) float32, in the order of the examples.
        targets: (n, labels) float32.
        predicted: (n, labels) float32 of 0 and 1; the scores themselves for regression.
    """

    scores: Floats
    targets: Floats
    predicted: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Trained:
    """A trained head and what is known of it.

    Attributes:
        head: ready to be published.
        held_out: behind its metrics; None when there were too few examples to hold any out.
        curve: (step, training loss, validation loss) of a learner that walks.
    """

    head: Head
    held_out: HeldOut | None
    curve: tuple[tuple[int, float, float], ...]


def train_head(examples: Examples, *, name: str, space_digest: bytes, options: TrainOptions | None = None) -> Trained:
    """Train a head.

    Every example is held out once: its score comes from a head that never saw it, and the setting, temperature and
    thresholds that judge it were chosen on the other folds. The served head then learns from all examples.

    Args:
        examples: labelled vectors, every content once.
        name: the head's name.
        space_digest: the vectors' space, 32 bytes.
        options: how to train.
    Returns:
        The head with its metrics, and the held-out scores behind them.
    Raises:
        TrainingDataInvalid: the examples can't be learned from.
    """
    options = options or TrainOptions()
    weights = examples.class_weights() if options.balanced else np.ones(len(examples), np.float32)
    kinds = [HeadKind.LINEAR, HeadKind.KERNEL] if options.choice is HeadChoice.AUTO else [HeadKind(options.choice)]
    folds = possible_folds(examples, options.folds)
    best, judgement = _Candidate(kinds[0], _LEARNERS[kinds[0]].settings // 2), _Judgement.unheld(examples)
    if folds >= 2:
        best, judgement = _cross_validate(kinds, examples, weights, folds=folds, seed=options.seed)
    [learned] = _LEARNERS[best.kind].learn(examples, weights, settings=[best.setting], seed=options.seed)
    head = _head(examples, learned, name=name, space_digest=space_digest, options=options, judgement=judgement)
    return Trained(head, judgement.held_out, learned.curve)


@dataclass(frozen=True, slots=True)
class _Candidate:
    kind: HeadKind
    setting: int


@dataclass(frozen=True, slots=True, eq=False)
class _Judgement:
    temperature: float
    thresholds: tuple[float, ...]
    metrics: dict[str, Metric]
    held_out: HeldOut | None

    @classmethod
    def unheld(cls, examples: Examples) -> _Judgement:
        """Return what can be said without holding anything out."""
        return cls(1.0, (0.5,) * len(examples.labels) if examples.task is Task.MULTI_LABEL else (), {}, None)


def _cross_validate(
    kinds: list[HeadKind], examples: Examples, weights: Floats, *, folds: int, seed: int
) -> tuple[_Candidate, _Judgement]:
    """Hold every example out once, for each kind and setting; returns the best of them and what is known of it."""
    task = examples.task
    fold_of = np.zeros(len(examples), np.intp)
    for number, (_, rows) in enumerate(split_folds(examples, folds, seed=seed)):
        fold_of[rows] = number
    logits = {kind: _held_out_logits(_LEARNERS[kind], examples, weights, fold_of, seed) for kind in kinds}
    judged = {kind: _judge(logits[kind], examples, weights, fold_of) for kind in kinds}
    kind = _better(judged, task)
    held_out = judged[kind]
    metrics = measure(
        held_out.scores, held_out.targets, task, predicted=held_out.predicted, method=f"{folds}-fold", seed=seed
    )
    every = np.arange(len(examples))
    setting, temperature = _best_setting(logits[kind], examples, weights, every)
    thresholds: tuple[float, ...] = ()
    if task is Task.MULTI_LABEL:
        thresholds = best_thresholds(scores_of(logits[kind][setting], task, temperature), examples.targets)
    return _Candidate(kind, setting), _Judgement(temperature, thresholds, metrics, held_out)


def _held_out_logits(learner: Learner, examples: Examples, weights: Floats, fold_of: Rows, seed: int) -> Floats:
    """Return (settings, n, labels) logits, each row by heads that did not learn from it."""
    logits = np.zeros((learner.settings, *examples.targets.shape), np.float32)
    for fold in np.unique(fold_of):
        rows, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        kept = examples.targets[rows].max(axis=0) > 0
        lost = [name for name, has in zip(examples.labels, kept, strict=True) if not has]
        if lost and examples.task is not Task.REGRESSION:
            raise TrainingDataInvalid(f"labels {lost} have so few examples that holding some out leaves none; add some")
        learned = learner.learn(examples.take(rows), weights[rows], settings=range(learner.settings), seed=seed)
        logits[:, held_out] = [head.logits(examples.vectors[held_out]) for head in learned]
    return logits


def _best_setting(logits: Floats, examples: Examples, weights: Floats, rows: Rows) -> tuple[int, float]:
    """Return the setting, and its temperature, whose scores are nearest to the truth on some rows.

    Near by squared error (Brier score): log loss weighs a few sure mistakes so heavily that it prefers too timid settings.
    """
    targets = examples.targets[rows]
    errors, temperatures = [], []
    for of_setting in logits[:, rows]:
        temperature = fit_temperature(of_setting, targets, examples.task, weights[rows])
        squared = np.square(scores_of(of_setting, examples.task, temperature) - targets).sum(axis=1)
        errors.append(np.average(squared, weights=weights[rows]))
        temperatures.append(temperature)
    best = int(np.argmin(errors))
    return best, temperatures[best]


def _judge(logits: Floats, examples: Examples, weights: Floats, fold_of: Rows) -> HeldOut:
    """Turn held-out logits into decisions; setting, temperature and thresholds of each fold are chosen on the others."""
    task = examples.task
    scores, predicted = np.zeros_like(logits[0]), np.zeros_like(logits[0])
    for fold in np.unique(fold_of):
        rows, held_out = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
        setting, temperature = _best_setting(logits, examples, weights, rows)
        scores[held_out] = scores_of(logits[setting, held_out], task, temperature)
        thresholds = np.zeros(scores.shape[1], np.float32)
        if task is Task.MULTI_LABEL:
            others = scores_of(logits[setting, rows], task, temperature)
            thresholds = np.array(best_thresholds(others, examples.targets[rows]), np.float32)
        predicted[held_out] = decide(scores[held_out], task, thresholds)
    return HeldOut(scores, examples.targets, scores if task is Task.REGRESSION else predicted)


def _better(judged: dict[HeadKind, HeldOut], task: Task) -> HeadKind:
    """Return the kind that decides best; a dearer one must be right more often than the one before it."""
    best, best_figure = HeadKind.LINEAR, -np.inf
    for kind, held_out in judged.items():
        if task is Task.REGRESSION:
            figure = -mean_loss(held_out.scores, held_out.targets, task, np.ones(len(held_out.scores), np.float32))
        else:
            figure = float((held_out.predicted == held_out.targets).all(axis=1).mean())
        if figure > best_figure:
            best, best_figure = kind, figure
    return best


def _head(
    examples: Examples,
    learned: Learned,
    *,
    name: str,
    space_digest: bytes,
    options: TrainOptions,
    judgement: _Judgement,
) -> Head:
    training = {
        "examples": len(examples),
        "class_weights": "balanced" if options.balanced else "none",
        "seed": options.seed,
        **learned.notes,
    }
    manifest = HeadManifest(
        name=name,
        kind=learned.kind,
        task=examples.task,
        space_digest=space_digest.hex(),
        dim=examples.vectors.shape[1],
        labels=examples.labels,
        thresholds=judgement.thresholds,
        temperature=judgement.temperature,
        data_digest=examples.digest(),
        metrics=judgement.metrics,
        training=training,
    )
    return Head(manifest, learned.tensors)
