"""Training: heads learn what can be learned, their figures are honest, and what can't be learned from is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from embedder_heads import HeadKind, HeadRegistry, HeadRuntime, HeadSpaceMismatch, Task
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.training.calibration import best_thresholds, expected_calibration_error, fit_temperature, scores_of
from embedder_heads.training.classification import train_head
from embedder_heads.training.evaluation import evaluate_head
from embedder_heads.training.examples import Target, make_examples
from embedder_heads.training.intervals import bootstrap, wilson
from embedder_heads.training.kernel import KernelLearner, gaussian
from embedder_heads.training.linear import LinearLearner
from embedder_heads.training.options import HeadChoice, TrainOptions
from embedder_heads.training.zero_shot import label_prompts, zero_shot_head

Floats = npt.NDArray[np.float32]
Clusters = Callable[[int], tuple[Floats, list[str]]]
SPACE = bytes(range(32))


def _targets(task: Task, vectors: Floats, names: list[str]) -> list[Target]:
    if task is Task.SINGLE_LABEL:
        return list(names)
    if task is Task.MULTI_LABEL:
        return [(name, "any") if name != "topic0" else () for name in names]
    return [float(vector[0] - 2 * vector[1]) for vector in vectors]


@pytest.mark.parametrize("choice", [HeadChoice.LINEAR, HeadChoice.KERNEL, HeadChoice.MLP])
@pytest.mark.parametrize("task", list(Task))
def test_every_kind_learns_every_task_and_serves_what_it_learned(
    clusters: Clusters, registry: HeadRegistry, choice: HeadChoice, task: Task
) -> None:
    vectors, names = clusters(300)
    examples = make_examples(vectors[:240], _targets(task, vectors[:240], names[:240]), task=task)
    trained = train_head(examples, name="topic", space_digest=SPACE, options=TrainOptions(choice=choice, folds=3))
    assert trained.head.manifest.kind == HeadKind(choice)
    metrics = trained.head.manifest.metrics
    figure = metrics["r2" if task is Task.REGRESSION else "accuracy"]
    assert figure.value > 0.85
    assert figure.low <= figure.value <= figure.high
    registry.publish(trained.head)
    [output] = HeadRuntime(registry).predict(vectors[240:], ["topic"], SPACE)
    unseen = make_examples(
        vectors[240:], _targets(task, vectors[240:], names[240:]), task=task, labels=output.labels, complete=False
    )
    measured = evaluate_head(trained.head, unseen, space_digest=SPACE)
    assert measured["r2" if task is Task.REGRESSION else "accuracy"].value > 0.8
    if task is Task.SINGLE_LABEL:
        said = [output.labels[column] for column in output.scores.argmax(axis=1)]
        share = np.mean([left == right for left, right in zip(said, names[240:], strict=True)])
        assert measured["accuracy"].value == pytest.approx(share)


def test_same_seed_gives_the_same_head(clusters: Clusters) -> None:
    vectors, names = clusters(120)
    examples = make_examples(vectors, names, task=Task.SINGLE_LABEL)
    options = TrainOptions(choice=HeadChoice.MLP, folds=2, seed=5)
    first, second = (train_head(examples, name="topic", space_digest=SPACE, options=options) for _ in range(2))
    for name, tensor in first.head.tensors.items():
        np.testing.assert_array_equal(tensor, second.head.tensors[name])
    assert first.head.manifest.data_digest == second.head.manifest.data_digest


def test_figures_on_labels_without_meaning_are_at_chance(clusters: Clusters) -> None:
    vectors, _ = clusters(400)
    names = [str(number) for number in np.random.default_rng(1).integers(0, 2, 400)]
    examples = make_examples(vectors, names, task=Task.SINGLE_LABEL)
    for choice in (HeadChoice.AUTO, HeadChoice.MLP):
        options = TrainOptions(choice=choice, folds=4)
        metrics = train_head(examples, name="noise", space_digest=SPACE, options=options).head.manifest.metrics
        assert metrics["accuracy"].low < 0.5 < metrics["accuracy"].high + 0.03
        assert 0.35 < metrics["auc"].value < 0.65
        assert metrics["calibration_error"].value < 0.1


def test_kernel_head_learns_what_no_line_parts() -> None:
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, 400)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    names = [str(int(angle / (np.pi / 2)) % 2) for angle in angles]  # opposite quarters share a name
    examples = make_examples(vectors, names, task=Task.SINGLE_LABEL)
    trained = train_head(examples, name="quarter", space_digest=SPACE)
    assert trained.head.manifest.kind is HeadKind.KERNEL
    assert trained.head.manifest.metrics["accuracy"].value > 0.95


def test_balanced_weights_rescue_a_rare_label() -> None:
    generator = np.random.default_rng(0)
    names = ["rare"] * 20 + ["common"] * 380
    vectors = generator.standard_normal((400, 16)).astype(np.float32)
    vectors[:20, 0] += 1.5
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    examples = make_examples(vectors, names, task=Task.SINGLE_LABEL)
    recalls = {}
    for balanced in (False, True):
        options = TrainOptions(choice=HeadChoice.LINEAR, balanced=balanced)
        held_out = train_head(examples, name="rare", space_digest=SPACE, options=options).held_out
        assert held_out is not None
        recalls[balanced] = held_out.predicted[:20, 1].mean()
    assert recalls[True] > recalls[False] + 0.2


@pytest.mark.parametrize("learner", [LinearLearner(), KernelLearner()])
@pytest.mark.parametrize("task", list(Task))
def test_weighing_an_example_twice_is_like_giving_it_twice(
    clusters: Clusters, learner: LinearLearner | KernelLearner, task: Task
) -> None:
    vectors, names = clusters(60)
    examples = make_examples(vectors, _targets(task, vectors, names), task=task)
    twice = examples.take(np.concatenate([np.arange(60), np.arange(30)]))
    weights = np.ones(60, np.float32)
    weights[:30] = 2
    [weighted] = learner.learn(examples, weights, settings=[2], seed=0)
    [repeated] = learner.learn(twice, np.ones(90, np.float32), settings=[2], seed=0)
    np.testing.assert_allclose(weighted.logits(vectors), repeated.logits(vectors), rtol=0.05, atol=0.05)


def test_kernel_solution_is_the_ridge_solution(clusters: Clusters) -> None:
    from sklearn.kernel_ridge import KernelRidge

    vectors, _ = clusters(80)
    numbers = vectors[:, :1] - vectors[:, 1:2]
    numbers -= numbers.mean()
    examples = make_examples(vectors, numbers.ravel().tolist(), task=Task.REGRESSION)
    [learned] = KernelLearner().learn(examples, np.ones(80, np.float32), settings=[2], seed=0)
    gamma = float(learned.notes["gamma"])
    np.testing.assert_allclose(np.diag(gaussian(vectors, vectors, gamma)), 1.0, atol=1e-5)
    peer = KernelRidge(alpha=0.3, kernel="rbf", gamma=gamma).fit(vectors, numbers)
    assert np.corrcoef(learned.logits(vectors).ravel(), peer.predict(vectors).ravel())[0, 1] > 0.999


def test_temperature_finds_how_sure_logits_were_made() -> None:
    generator = np.random.default_rng(0)
    logits = (3 * generator.standard_normal((4000, 3))).astype(np.float32)
    odds = np.exp(logits)
    drawn = (generator.random((4000, 1)) < np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)).argmax(axis=1)
    targets = np.eye(3, dtype=np.float32)[drawn]
    weights = np.ones(4000, np.float32)
    temperature = fit_temperature(5 * logits, targets, Task.SINGLE_LABEL, weights)
    assert temperature == pytest.approx(5, rel=0.08)
    before = expected_calibration_error(scores_of(5 * logits, Task.SINGLE_LABEL, 1.0), targets)
    after = expected_calibration_error(scores_of(5 * logits, Task.SINGLE_LABEL, temperature), targets)
    assert after < 0.03 < before


def test_threshold_is_the_one_of_best_f1() -> None:
    from sklearn.metrics import f1_score

    generator = np.random.default_rng(0)
    targets = (generator.random((300, 2)) < [0.1, 0.5]).astype(np.float32)
    scores = np.clip(0.3 * targets + generator.random((300, 2)) * 0.6, 0, 1).astype(np.float32)
    scores = np.round(scores, 2)  # with ties
    for column, threshold in enumerate(best_thresholds(scores, targets)):
        figures = [f1_score(targets[:, column], scores[:, column] >= at) for at in np.linspace(0, 1, 201)]
        ours = f1_score(targets[:, column], scores[:, column] >= np.float32(threshold))
        assert ours == pytest.approx(max(figures), abs=1e-9)


def test_intervals_hold_what_they_promise() -> None:
    assert wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 10)[0] == 0
    assert wilson(10, 10)[1] == pytest.approx(1)
    values = np.random.default_rng(0).standard_normal(400)
    low, high = bootstrap(lambda rows: float(values[rows].mean()), 400, seed=0)
    half = 1.96 * values.std() / 20
    assert (high - low) / 2 == pytest.approx(half, rel=0.15)


@pytest.mark.parametrize(
    ("given", "task", "reason"),
    [
        (["a"] * 8, Task.SINGLE_LABEL, "needs more"),
        (["a", "b"], Task.SINGLE_LABEL, "8 vectors and 2 labels"),
        ([("a", "b")] * 8, Task.SINGLE_LABEL, "example 0 has 2 labels"),
        ([()] * 8, Task.MULTI_LABEL, "needs more"),
        ([1.0] * 7 + [float("nan")], Task.REGRESSION, "example 7 is not a finite number"),
        (["high"] * 8, Task.REGRESSION, "learns from numbers"),
    ],
)
def test_what_can_not_be_learned_from_is_refused(vectors: Floats, given: list[Target], task: Task, reason: str) -> None:
    with pytest.raises(TrainingDataInvalid, match=reason):
        make_examples(vectors[:8], given, task=task)


def test_label_too_rare_to_hold_out_is_named(vectors: Floats) -> None:
    given: list[Target] = [("once",), *[("often",)] * 10, *[()] * 9]
    examples = make_examples(vectors, given, task=Task.MULTI_LABEL)
    with pytest.raises(TrainingDataInvalid, match="once"):
        train_head(examples, name="tags", space_digest=SPACE)


def test_one_example_a_label_makes_a_head_without_figures(clusters: Clusters) -> None:
    vectors, names = clusters(200)
    rows = [names.index(f"topic{number}") for number in range(4)]
    examples = make_examples(vectors[rows], [names[row] for row in rows], task=Task.SINGLE_LABEL)
    trained = train_head(examples, name="topic", space_digest=SPACE)
    assert trained.held_out is None
    assert not trained.head.manifest.metrics
    rest = make_examples(vectors, names, task=Task.SINGLE_LABEL)
    assert evaluate_head(trained.head, rest, space_digest=SPACE)["accuracy"].value > 0.6
    with pytest.raises(HeadSpaceMismatch):
        evaluate_head(trained.head, rest, space_digest=bytes(32))


def test_zero_shot_head_gives_the_label_whose_prompt_is_nearest(vectors: Floats) -> None:
    assert label_prompts(["cat", "dog"], ["a {label}", "{label}!"]) == ["a cat", "cat!", "a dog", "dog!"]
    head = zero_shot_head(vectors[:4], ["cat", "dog"], name="pets", space_digest=SPACE)
    np.testing.assert_allclose(np.linalg.norm(head.tensors["weight"], axis=1), 1.0, rtol=1e-5)
    means = vectors[:4].reshape(2, 2, -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(head.tensors["weight"], means, rtol=1e-5)
    with pytest.raises(TrainingDataInvalid, match="does not say where"):
        label_prompts(["cat"], ["animal"])
    with pytest.raises(TrainingDataInvalid, match="two at least"):
        zero_shot_head(vectors[:1], ["cat"], name="pets", space_digest=SPACE)
