"""Serving: scores are right, one call is one version, and a bad head never replaces a good one."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from embedder_heads import (
    Head,
    HeadKind,
    HeadNotFound,
    HeadRegistry,
    HeadRuntime,
    HeadSpaceMismatch,
    Task,
    stack,
)
from embedder_heads.errors import QueryInvalid
from embedder_heads.forward import head_scores
from embedder_heads.stack import LinearStack

MakeHead = Callable[..., Head]
Floats = npt.NDArray[np.float32]
SPACE = bytes(range(32))


def _reference(head: Head, vectors: Floats) -> npt.NDArray[np.float64]:
    """Score by the definitions, in double precision."""
    t = {name: tensor.astype(np.float64) for name, tensor in head.tensors.items()}
    inputs = vectors.astype(np.float64)
    if head.manifest.kind is HeadKind.MLP:
        inputs = np.maximum(inputs @ t["hidden_weight"].T + t["hidden_bias"], 0)
    elif head.manifest.kind is HeadKind.KERNEL:
        apart = inputs[:, None] - t["landmarks"][None]
        inputs = np.exp(-t["gamma"] * np.square(apart).sum(axis=2))
    logits = (inputs @ t["weight"].T + t["bias"]) / head.manifest.temperature
    if head.manifest.task is Task.SINGLE_LABEL:
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        logits = odds / odds.sum(axis=1, keepdims=True)
    elif head.manifest.task is Task.MULTI_LABEL:
        logits = 1 / (1 + np.exp(-logits))
    return np.asarray(logits, np.float64)


@pytest.mark.parametrize("kind", list(HeadKind))
@pytest.mark.parametrize("task", list(Task))
def test_every_kind_and_task_scores_by_its_definition(
    registry: HeadRegistry, make_head: MakeHead, vectors: Floats, kind: HeadKind, task: Task
) -> None:
    head = make_head(kind=kind, task=task, temperature=0.7)
    registry.publish(head)
    [output] = HeadRuntime(registry).predict(vectors, ["topic"], SPACE)
    assert output.scores.shape == (20, 3)
    assert output.scores.dtype == np.float32
    np.testing.assert_allclose(output.scores, _reference(head, vectors), rtol=2e-4, atol=2e-5)
    np.testing.assert_allclose(output.scores, head_scores(head, vectors), rtol=2e-5, atol=1e-6)


def test_stacked_heads_score_as_they_do_alone(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    rng = np.random.default_rng(0)
    refs = []
    for number in range(30):
        task, labels = list(Task)[number % 3], int(rng.integers(1, 6))
        kind = HeadKind.LINEAR if number % 5 else list(HeadKind)[number // 5 % 3]
        registry.publish(make_head(f"h{number}", kind=kind, task=task, labels=labels, seed=number, temperature=0.5))
        refs.append(f"h{number}")
    runtime = HeadRuntime(registry)
    order = [*reversed(refs), "h3", "h3@1"]
    together = runtime.predict(vectors, order, SPACE)
    for ref, output in zip(order, together, strict=True):
        [alone] = runtime.predict(vectors, [ref], SPACE)
        assert (output.name, output.labels, output.thresholds) == (alone.name, alone.labels, alone.thresholds)
        np.testing.assert_allclose(output.scores, alone.scores, rtol=1e-5, atol=1e-6)
    assert sum(output.device_seconds for output in together) > 0


def test_one_block_says_what_each_head_says(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    for number, (kind, task) in enumerate(itertools.product(HeadKind, Task)):
        registry.publish(make_head(f"h{number}", kind=kind, task=task))
    snapshot = HeadRuntime(registry).snapshot
    for refs in (["h2", "h0", "h5", "h1", "h8", "h2"], ["h1"], ["h4", "h3"]):
        packed = snapshot.predict_packed(vectors, refs, SPACE)
        single = snapshot.predict(vectors, refs, SPACE)
        np.testing.assert_array_equal(packed.scores, np.concatenate([output.scores.T for output in single]))
        assert [manifest.name for manifest in packed.layout] == refs
        assert len(packed.head_seconds) == len(refs)
    digest = snapshot.predict_packed(vectors, ["h1"], SPACE).layout_digest
    assert digest == snapshot.predict_packed(vectors[:1], ["h1@1"], SPACE).layout_digest
    assert digest != snapshot.predict_packed(vectors, ["h0"], SPACE).layout_digest


def test_product_that_threads_share_is_the_same(make_head: MakeHead, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "_SHARED_PRODUCTS", 1_000)
    heads = [make_head(f"h{number}", labels=5, seed=number, task=Task.REGRESSION) for number in range(200)]
    drawn = np.random.default_rng(0).standard_normal((400, 16)).astype(np.float32)
    block = LinearStack(heads).block(drawn)
    expected = np.concatenate([head_scores(head, drawn).T for head in heads])
    np.testing.assert_allclose(block, expected, rtol=1e-5, atol=1e-5)


def test_extreme_logits_stay_finite(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    for number, task in enumerate((Task.SINGLE_LABEL, Task.MULTI_LABEL)):
        registry.publish(make_head(f"h{number}", task=task, temperature=1e-6))
    for output in HeadRuntime(registry).predict(vectors, ["h0", "h1"], SPACE):
        assert np.isfinite(output.scores).all()
        assert output.scores.min() >= 0
        assert output.scores.max() <= 1


def test_vectors_of_no_contents_give_no_scores(registry: HeadRegistry, make_head: MakeHead) -> None:
    for number, kind in enumerate(HeadKind):
        registry.publish(make_head(f"h{number}", kind=kind))
    outputs = HeadRuntime(registry).predict(np.zeros((0, 16), np.float32), ["h0", "h1", "h2"], SPACE)
    assert [output.scores.shape for output in outputs] == [(0, 3)] * 3


def test_wrong_vectors_and_spaces_are_refused(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    registry.publish(make_head())
    runtime = HeadRuntime(registry)
    with pytest.raises(HeadSpaceMismatch):
        runtime.predict(vectors, ["topic"], bytes(32))
    with pytest.raises(QueryInvalid, match="dim 8"):
        runtime.predict(vectors[:, :8], ["topic"], SPACE)
    with pytest.raises(QueryInvalid, match="float64"):
        runtime.predict(vectors.astype(np.float64), ["topic"], SPACE)
    with pytest.raises(HeadNotFound):
        runtime.predict(vectors, ["topic", "mood"], SPACE)


def test_plan_of_one_space_is_not_used_for_another(
    registry: HeadRegistry, make_head: MakeHead, vectors: Floats
) -> None:
    registry.publish(make_head())
    runtime = HeadRuntime(registry)
    runtime.predict(vectors, ["topic"], SPACE)
    with pytest.raises(HeadSpaceMismatch):
        runtime.predict(vectors, ["topic"], bytes(32))


def test_refresh_picks_up_every_kind_of_change(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    runtime = HeadRuntime(registry)
    assert runtime.snapshot.served() == []
    registry.publish(make_head(seed=1))
    assert runtime.refresh().changed
    assert not runtime.refresh().changed
    registry.publish(make_head(seed=2))
    runtime.refresh()
    registry.promote("topic@1", "prod")
    runtime.refresh()
    versions = {ref: runtime.predict(vectors, [ref], SPACE)[0].version for ref in ("topic", "topic@prod", "topic@2")}
    assert versions == {"topic": 2, "topic@prod": 1, "topic@2": 2}
    registry.rollback("topic")
    runtime.refresh()
    assert runtime.predict(vectors, ["topic"], SPACE)[0].version == 1
    registry.remove("topic")
    runtime.refresh()
    with pytest.raises(HeadNotFound):
        runtime.predict(vectors, ["topic"], SPACE)


def test_head_copied_in_by_hand_is_picked_up(registry: HeadRegistry, make_head: MakeHead, tmp_path: object) -> None:
    other = HeadRegistry(registry.root.parent / "other")
    other.publish(make_head())
    runtime = HeadRuntime(registry)
    registry.root.mkdir()
    (other.root / "topic").rename(registry.root / "topic")
    assert runtime.refresh().changed
    assert [head.manifest.name for head in runtime.snapshot.served()] == ["topic"]


@pytest.mark.parametrize("damage", ["corrupt", "nan", "truncated manifest", "another name"])
def test_bad_head_is_refused_and_the_old_one_stays(
    registry: HeadRegistry, make_head: MakeHead, vectors: Floats, damage: str
) -> None:
    registry.publish(make_head(seed=1))
    runtime = HeadRuntime(registry)
    before = runtime.predict(vectors, ["topic"], SPACE)[0]
    registry.publish(make_head(seed=2))
    folder = registry.root / "topic" / "2"
    if damage == "corrupt":
        (folder / "head.safetensors").write_bytes(b"\x00" * 100)
    elif damage == "nan":
        text = (folder / "head.json").read_text()
        (folder / "head.json").write_text(text.replace('"temperature": 1.0', '"temperature": NaN'))
    elif damage == "truncated manifest":
        (folder / "head.json").write_text("{")
    else:
        (folder / "head.json").write_text((folder / "head.json").read_text().replace('"topic"', '"mood"'))
    report = runtime.refresh()
    assert list(report.refused) == ["topic@2"]
    after = runtime.predict(vectors, ["topic"], SPACE)[0]
    assert after.version == 1
    np.testing.assert_array_equal(after.scores, before.scores)
    assert HeadRuntime(registry).predict(vectors, ["topic"], SPACE)[0].version == 1  # a fresh start decides the same


def test_damaged_aliases_keep_what_was_served(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    registry.publish(make_head(seed=1))
    runtime = HeadRuntime(registry)
    registry.publish(make_head(seed=2))
    (registry.root / "topic" / "aliases.json").write_text("{")
    assert "topic@current" in runtime.refresh().refused
    assert runtime.predict(vectors, ["topic"], SPACE)[0].version == 1


def test_calls_during_hot_swaps_each_see_exactly_one_version(
    registry: HeadRegistry, make_head: MakeHead, vectors: Floats
) -> None:
    def publish() -> None:
        """Publish a version that answers with its own number, whatever it is asked."""
        version = len(registry.versions("left")) + 1
        tensors = {"weight": np.zeros((1, 16), np.float32), "bias": np.array([version], np.float32)}
        registry.publish(replace(make_head("left", task=Task.REGRESSION, labels=1), tensors=tensors))

    publish()
    runtime = HeadRuntime(registry)
    stop = threading.Event()
    faults: list[str] = []
    seen: list[set[int]] = [set(), set()]

    def ask(versions: set[int]) -> None:
        while not stop.wait(0.0005):
            try:
                output, again = runtime.predict(vectors, ["left", "left@current"], SPACE)
            except Exception as error:  # noqa: BLE001 - whatever it is, the test must report it
                faults.append(repr(error))
                return
            said = set(output.scores.ravel().tolist()) | set(again.scores.ravel().tolist())
            if said != {float(output.version)} or again.version != output.version:
                faults.append(f"versions {output.version} and {again.version} said {said}")
            versions.add(output.version)

    threads = [threading.Thread(target=ask, args=(versions,)) for versions in seen]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            publish()
            assert runtime.refresh().changed
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert all(len(versions) > 5 for versions in seen)
