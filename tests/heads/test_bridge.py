"""Bridges: they find the map that is there, say what they lose, and let heads of another space answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedder_heads import Head, HeadKind, HeadRegistry, HeadRuntime, Task
from embedder_heads.bridge.bridge_file import Bridge, BridgeManifest, BridgeMethod, load_bridge
from embedder_heads.bridge.library import BridgeLibrary
from embedder_heads.errors import HeadInvalid, HeadSpaceMismatch, TrainingDataInvalid
from embedder_heads.training.bridge import BridgeEnds, Labelled, fit_bridge

from .conftest import DIM, SPACE, Floats, MakeHead

NEW_SPACE = bytes(reversed(range(32)))
ENDS = BridgeEnds("new-to-old", source_digest=NEW_SPACE.hex(), target_digest=SPACE.hex())


def unit(vectors: np.ndarray) -> Floats:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def rotated() -> Callable[[int], tuple[Floats, Floats]]:
    """Draw n pairs: vectors of the new space, and of the old one, which is a rotation of it."""

    def draw(count: int) -> tuple[Floats, Floats]:
        generator = np.random.default_rng(2)
        rotation = np.linalg.qr(generator.standard_normal((DIM, DIM)))[0]
        new = unit(generator.standard_normal((count, DIM)))
        return new, unit(new @ rotation)

    return draw


@pytest.fixture
def bridge(rotated: Callable[[int], tuple[Floats, Floats]]) -> Bridge:
    return fit_bridge(ENDS, *rotated(400))


def test_rotation_is_found_and_loses_nothing(rotated, make_head: MakeHead) -> None:  # type: ignore[no-untyped-def]
    heads = [replace_version(make_head("topic"), 3), replace_version(make_head("mood", kind=HeadKind.KERNEL), 1)]
    new, old = rotated(500)
    fitted = fit_bridge(ENDS, new[:400], old[:400], heads=heads)
    assert fitted.manifest.method is BridgeMethod.PROCRUSTES
    assert fitted.apply(new[400:]) == pytest.approx(old[400:], abs=1e-4)
    metrics = fitted.manifest.metrics
    assert metrics["cosine"].value > 0.9999
    assert metrics["neighbour_overlap_at_10"].value > 0.99
    assert metrics["topic@3.agreement"].value == metrics["mood@1.agreement"].value == 1.0
    assert metrics["cosine"].samples == 80


def test_another_length_takes_a_ridge_and_says_what_it_loses() -> None:
    generator = np.random.default_rng(4)
    new = unit(generator.standard_normal((600, 40)))
    old = unit(new @ generator.standard_normal((40, DIM)) + 0.8 * generator.standard_normal((600, DIM)))
    fitted = fit_bridge(ENDS, new, old)
    assert fitted.manifest.method is BridgeMethod.RIDGE
    cosine = fitted.manifest.metrics["cosine"]
    unseen = unit(generator.standard_normal((1, 40)))
    assert fitted.apply(unseen).shape == (1, DIM)
    assert 0.5 < cosine.low <= cosine.value <= cosine.high < 0.999


def test_loss_is_measured_on_pairs_that_the_map_did_not_learn_from() -> None:
    generator = np.random.default_rng(6)
    new, old = unit(generator.standard_normal((150, DIM))), unit(generator.standard_normal((150, DIM)))
    assert abs(fit_bridge(ENDS, new, old).manifest.metrics["cosine"].value) < 0.3, "unrelated spaces have no bridge"


def test_accuracy_is_measured_on_both_sides(rotated, make_head: MakeHead) -> None:  # type: ignore[no-untyped-def]
    head = replace_version(make_head("topic"), 2)
    new, old = rotated(400)
    targets = np.eye(3, dtype=np.float32)[(old @ head.tensors["weight"].T + head.tensors["bias"]).argmax(axis=1)]
    metrics = fit_bridge(ENDS, new, old, heads=[head], labelled={"topic": Labelled(new, old, targets)}).manifest.metrics
    assert metrics["topic@2.accuracy_before"].value == 1.0
    assert metrics["topic@2.accuracy_loss"].value == pytest.approx(1 - metrics["topic@2.accuracy_bridged"].value)


def test_too_few_pairs_are_refused(rotated) -> None:  # type: ignore[no-untyped-def]
    new, old = rotated(50)
    with pytest.raises(TrainingDataInvalid, match="100 pairs"):
        fit_bridge(ENDS, new, old)


def test_bridge_is_read_back_as_it_was_published(tmp_path: Path, bridge: Bridge) -> None:
    library = BridgeLibrary(tmp_path)
    published = library.publish(bridge)
    assert published.manifest.reference == "new-to-old@1"
    loaded = library.load("new-to-old")
    assert loaded.manifest == published.manifest
    assert np.array_equal(loaded.weight, bridge.weight)
    assert library.publish(bridge).manifest.version == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensors_digest": "0" * 64}, "digest"),
        ({"source_dim": DIM + 1}, "shape"),
        ({"source_digest": "x"}, "64 hex digits"),
        ({"target_digest": NEW_SPACE.hex()}, "both ends are the same"),
        ({"method": "magic"}, "method"),
        ({"extra": 1}, "unknown fields"),
    ],
)
def test_damaged_bridge_is_refused(tmp_path: Path, bridge: Bridge, change: dict[str, object], words: str) -> None:
    BridgeLibrary(tmp_path).publish(bridge)
    folder = tmp_path / "new-to-old" / "1"
    document = json.loads((folder / "bridge.json").read_text())
    (folder / "bridge.json").write_text(json.dumps(document | change))
    with pytest.raises(HeadInvalid, match=words):
        load_bridge(folder)


def replace_version(head: Head, version: int) -> Head:
    return Head(replace(head.manifest, version=version), head.tensors)


def test_head_answers_over_a_bridge_only_where_it_is_allowed(
    registry: HeadRegistry, make_head: MakeHead, rotated
) -> None:  # type: ignore[no-untyped-def]
    new, old = rotated(400)
    registry.publish(make_head("topic"))
    registry.publish(make_head("mood", kind=HeadKind.MLP, task=Task.MULTI_LABEL))
    registry.publish(make_head("native", space=NEW_SPACE, seed=3))
    runtime = HeadRuntime(registry)
    names = ["topic", "native", "mood"]
    with pytest.raises(HeadSpaceMismatch):
        runtime.predict(new[:5], names, NEW_SPACE)
    runtime.serve_bridges([fit_bridge(ENDS, new, old)])
    runtime.refresh()
    plan = runtime.snapshot.plan(names, NEW_SPACE)
    assert [one.manifest.reference if one else None for one in plan.bridges] == ["new-to-old@0", None, "new-to-old@0"]
    bridged = runtime.predict(new[:5], names, NEW_SPACE)
    truth = [*runtime.predict(old[:5], ["topic", "mood"], SPACE), *runtime.predict(new[:5], ["native"], NEW_SPACE)]
    for output, wanted in zip(bridged, (truth[0], truth[2], truth[1]), strict=True):
        assert (output.name, output.version) == (wanted.name, wanted.version)
        assert output.scores == pytest.approx(wanted.scores, abs=1e-3)
    packed = runtime.snapshot.predict_packed(new[:5], names, NEW_SPACE)
    assert packed.scores == pytest.approx(np.concatenate([one.scores.T for one in bridged]), abs=1e-5)
    runtime.serve_bridges([])
    with pytest.raises(HeadSpaceMismatch):
        runtime.predict(new[:5], names, NEW_SPACE)


def test_head_of_the_own_space_comes_before_a_bridged_one(
    registry: HeadRegistry, make_head: MakeHead, bridge: Bridge
) -> None:
    registry.publish(make_head("topic"))
    runtime = HeadRuntime(registry)
    runtime.serve_bridges([bridge])
    assert runtime.snapshot.plan(["topic"], NEW_SPACE).heads[0].manifest.version == 1
    registry.publish(make_head("topic", space=NEW_SPACE))
    runtime.refresh()
    plan = runtime.snapshot.plan(["topic"], NEW_SPACE)
    assert (plan.heads[0].manifest.version, plan.bridges) == (2, ())


def test_row_of_a_failed_item_stays_zero(bridge: Bridge) -> None:
    vectors = np.zeros((2, DIM), np.float32)
    vectors[1, 0] = 1.0
    mapped = bridge.apply(vectors)
    assert not mapped[0].any()
    assert np.linalg.norm(mapped[1]) == pytest.approx(1.0, abs=1e-5)


def test_bridge_of_unfit_tensors_is_refused() -> None:
    manifest = BridgeManifest("b", BridgeMethod.RIDGE, "0" * 64, "1" * 64, 3, 2, "2" * 64)
    with pytest.raises(HeadInvalid, match="NaN"):
        Bridge(manifest, np.full((2, 3), np.nan, np.float32), np.zeros(2, np.float32))
    with pytest.raises(HeadInvalid, match="float64"):
        Bridge(manifest, np.zeros((2, 3)), np.zeros(2, np.float32))  # type: ignore[arg-type]
