"""Heads at a cut-over: they move with the space, block it, or are served over a bridge that says what it loses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from embedder.errors import SpaceConflict
from embedder.spaces.administration import HeadsMissing
from embedder.spaces.document import BridgeRow
from embedder_client import errors, hash_texts
from embedder_heads import Head, HeadRegistry, Task
from embedder_heads.bridge.library import BridgeLibrary
from embedder_heads.training.bridge import BridgeEnds, fit_bridge
from embedder_heads.training.classification import train_head
from embedder_heads.training.examples import make_examples
from embedder_heads.training.options import HeadChoice, TrainOptions

from .conftest import Desk, Start, wait_until

# The letters of a text decide its label, which a model of random weights tells apart.
TEXTS = [f"{letter * 12} {number:03d}" for letter in "aqz" for number in range(40)]
LABELS = [text[0] for text in TEXTS]


def head_of(desk: Desk, space: str, name: str = "topic") -> Head:
    with desk.client() as client:
        result = client.embed(TEXTS, space=space, dtype="float32", durable=True)
    examples = make_examples(result.vectors, LABELS, task=Task.SINGLE_LABEL)
    options = TrainOptions(choice=HeadChoice.LINEAR)
    return train_head(examples, name=name, space_digest=result.provenance.space_digest, options=options).head


@pytest.fixture
def desk(start: Start, models: dict[str, Path]) -> Desk:
    desk = start()
    desk.create("default@2", models["new"])
    return desk


@pytest.fixture
def registry(desk: Desk) -> HeadRegistry:
    return HeadRegistry(desk.data_dir / "heads")


def wait_for_head(desk: Desk, name: str, version: int) -> None:
    served = lambda: (name, version) in desk.runtime.heads.snapshot.heads  # noqa: E731
    wait_until(served, what=f"{name}@{version} is not served")


def test_missing_head_blocks_the_cut_over_and_is_named(desk: Desk, registry: HeadRegistry) -> None:
    registry.publish(head_of(desk, "default@1"))
    registry.publish(head_of(desk, "default@1", "mood"))
    registry.publish(head_of(desk, "default@2", "mood"))
    for policy in ("block", "move"):
        with pytest.raises(HeadsMissing, match="no version in the new space: topic"):
            desk.spaces.cut_over("default", "default@2", heads=registry, policy=policy)
    with desk.client() as client:
        assert client.embed(TEXTS[:1]).provenance.space == "default@1"
    assert desk.spaces.cut_over("default", "default@2", heads=registry, policy="leave").after == "default@2"


def test_heads_move_with_the_space_and_back_at_a_rollback(desk: Desk, registry: HeadRegistry) -> None:
    registry.publish(head_of(desk, "default@1"))
    registry.publish(head_of(desk, "default@2"), make_current=False)
    wait_for_head(desk, "topic", 2)
    with desk.client() as client:

        def answer() -> tuple[str, int, list[str]]:
            result = client.predict(TEXTS, ["topic"])
            [head] = result.predictions
            return (
                result.provenance.space,
                head.version,
                [head.labels[column] for column in head.scores.argmax(axis=1)],
            )

        assert answer() == ("default@1", 1, LABELS)
        with pytest.raises(HeadsMissing, match="does not mean there yet: topic"):
            desk.spaces.cut_over("default", "default@2", heads=registry)
        moved = desk.spaces.cut_over("default", "default@2", heads=registry, policy="move", reason="better")
        assert moved.is_followed
        assert [(head.reference, head.successor) for head in moved.heads] == [("topic", 2)]
        wait_until(lambda: len(desk.runtime.heads.snapshot.histories["topic", "current"]) == 2, what="no promotion")
        assert answer() == ("default@2", 2, LABELS)
        back = desk.spaces.rollback("default", reason="not better")
        assert (back.before, back.after, back.is_followed) == ("default@2", "default@1", True)
        assert answer() == ("default@1", 1, LABELS)
        again = desk.spaces.cut_over("default", "default@2", heads=registry)
        assert again.is_followed
        assert answer() == ("default@2", 2, LABELS)
    moves = [(move.before, move.after, move.reason, move.is_rollback) for move in desk.spaces.document().moves]
    assert moves == [
        ("default@1", "default@2", "better", False),
        ("default@2", "default@1", "not better", True),
        ("default@1", "default@2", "", False),
    ]


def test_old_head_answers_new_vectors_over_a_bridge_and_the_reply_says_so(desk: Desk, registry: HeadRegistry) -> None:
    registry.publish(head_of(desk, "default@1"))
    with desk.client() as client:
        both = client.embed(TEXTS, dtype="float32", additional_spaces=["default@2"])
    [other] = both.additional
    source, target = (one.provenance.space_digest.hex() for one in (other, both))
    ends = BridgeEnds("over", source_digest=source, target_digest=target)
    old_head = registry.resolve("topic")
    fitted = fit_bridge(ends, np.array(other.vectors), np.array(both.vectors), heads=[old_head])
    published = BridgeLibrary(desk.data_dir / "bridges").publish(fitted).manifest
    wait_for_head(desk, "topic", 1)
    with pytest.raises(HeadsMissing):
        desk.spaces.cut_over("default", "default@2", heads=registry, policy="bridge")
    desk.spaces.allow_bridge(BridgeRow(published.reference, source, target))
    wait_until(lambda: desk.runtime.heads.snapshot.bridges, what="the bridge is not served")
    desk.spaces.cut_over("default", "default@2", heads=registry, policy="bridge")
    with desk.client() as client:
        result = client.predict(TEXTS, ["topic"])
        [use] = result.bridges
        [head] = result.predictions
        assert result.provenance.space == "default@2"
        assert (use.bridge, use.heads, use.head_space_digest.hex()) == ("over@1", ("topic@1",), target)
        assert use.losses["cosine"].value == pytest.approx(published.metrics["cosine"].value)
        assert use.losses["cosine"].basis == "measured"
        assert use.losses["topic@1.agreement"].value == published.metrics["topic@1.agreement"].value
        right = [head.labels[column] for column in head.scores.argmax(axis=1)]
        assert np.mean([one == label for one, label in zip(right, LABELS, strict=True)]) > 0.9
        assert not client.predict(TEXTS[:2], ["topic"], space="default@1").bridges
        desk.spaces.forbid_bridge(BridgeRow("", source, target))
        wait_until(lambda: not desk.runtime.heads.snapshot.bridges, what="the bridge is served still")
        with pytest.raises(errors.FailedPrecondition, match="made in space"):
            client.predict(TEXTS[:2], ["topic"])


def test_refill_computes_what_the_old_space_holds_and_nothing_else(desk: Desk, tmp_path: Path) -> None:
    from embedder.spaces.refill import Originals, read_originals, refill

    # In this process the service has the cache open; the command opens it for reading in its own.
    cache, served = desk.runtime.cache, desk.runtime.spaces
    keys = (served.resolve("default@1").engine.space, served.resolve("default@2").engine.space)
    with desk.client() as client:
        client.embed(TEXTS[:50], durable=True)
        client.embed(TEXTS[:5], space="default@2", durable=True)
        (tmp_path / "table.csv").write_text("text\n" + "\n".join(TEXTS[:30]) + "\n")
        (tmp_path / "folder").mkdir()
        for number in range(20, 60):
            (tmp_path / "folder" / f"{number}.txt").write_text(TEXTS[number])
        originals = Originals((tmp_path / "table.csv", tmp_path / "folder"))
        report = refill(read_originals(originals), cache, spaces=keys, client=client, new="default@2")
        again = refill(read_originals(originals), cache, spaces=keys, client=client, new="default@2")
        held = client.lookup(hash_texts(TEXTS), space="default@2").found
    assert (report.read, report.unknown, report.held, report.computed) == (60, 10, 5, 45)
    assert (report.old_entries, report.left) == (50, 0)
    assert (again.held, again.computed) == (50, 0)
    assert held.tolist() == [True] * 50 + [False] * 70


def test_spaces_that_are_not_two_are_refused(desk: Desk) -> None:
    from embedder.cli.space_options import open_two

    with pytest.raises(SpaceConflict, match="same space"):
        with open_two(desk.spaces, "default", "default@1", None):
            pass


def test_first_call_in_the_new_space_finds_the_heads_that_moved_with_it(desk: Desk, registry: HeadRegistry) -> None:
    registry.publish(head_of(desk, "default@1"))
    wait_for_head(desk, "topic", 1)
    with desk.client() as client:
        for _ in range(5):  # whatever the moment at which the registry of heads is looked at by itself
            registry.publish(head_of(desk, "default@2"), make_current=False)
            newest = max(registry.versions("topic"))
            registry.promote(f"topic@{newest}", "current")
            client.set_alias("default", "default@2")
            result = client.predict(TEXTS[:1], ["topic"])
            assert (result.provenance.space, result.predictions[0].version) == ("default@2", newest)
            client.set_alias("default", "default@1")
            assert client.predict(TEXTS[:1], ["topic"]).predictions[0].version == 1
