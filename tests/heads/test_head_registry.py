"""The registry: versions and aliases move as told, names stay inside, and a writer that dies leaves nothing half done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from embedder_heads import Head, HeadInvalid, HeadNameInvalid, HeadNotFound, HeadRegistry, HeadSpaceMismatch
from embedder_heads.errors import ArtifactInUse

MakeHead = Callable[..., Head]
SPACE = bytes(range(32))


def test_bare_name_means_the_newest_version(registry: HeadRegistry, make_head: MakeHead) -> None:
    assert registry.publish(make_head(seed=1)).manifest.version == 1
    assert registry.publish(make_head(seed=2)).manifest.version == 2
    assert registry.resolve("topic").manifest.version == 2
    assert registry.resolve("topic@1").manifest.version == 1


def test_publishing_aside_leaves_the_bare_name_alone(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    registry.publish(make_head(), make_current=False, alias="canary")
    assert registry.resolve("topic").manifest.version == 1
    assert registry.resolve("topic@canary").manifest.version == 2


def test_rollback_returns_to_what_was_before(registry: HeadRegistry, make_head: MakeHead) -> None:
    for _ in range(3):
        registry.publish(make_head())
    registry.promote("topic@1", "prod")
    registry.promote("topic@3", "prod")
    assert registry.rollback("topic@prod") == 1
    assert registry.resolve("topic@prod").manifest.version == 1
    assert registry.rollback("topic") == 2
    with pytest.raises(HeadNotFound, match="no earlier version"):
        registry.rollback("topic@prod")


def test_version_that_an_alias_means_is_not_removed(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    registry.publish(make_head())
    with pytest.raises(ArtifactInUse, match="current"):
        registry.remove("topic@2")
    registry.remove("topic@1")
    assert registry.versions("topic") == [2]
    registry.remove("topic")
    assert registry.names() == []


def test_version_numbers_are_not_used_twice(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    registry.publish(make_head(), make_current=False)
    registry.remove("topic@2")
    assert registry.publish(make_head()).manifest.version == 3


@pytest.mark.parametrize(
    "ref",
    [
        "../topic",
        "topic/../..",
        "/etc",
        "",
        ".",
        "..",
        "Topic",
        "topic@",
        "topic@../1",
        "topic@0",
        "a" * 65,
        "-a",
        "topic\n",
    ],
)
def test_reference_that_is_not_allowed_is_refused(registry: HeadRegistry, make_head: MakeHead, ref: str) -> None:
    registry.publish(make_head())
    with pytest.raises(HeadNameInvalid):
        registry.resolve(ref)


def test_unknown_references_say_what_there_is(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    with pytest.raises(HeadNotFound, match="topic"):
        registry.resolve("mood")
    with pytest.raises(HeadNotFound, match="versions \\[1\\]"):
        registry.resolve("topic@2")
    with pytest.raises(HeadNotFound, match="aliases \\['current'\\]"):
        registry.resolve("topic@prod")


def test_head_of_another_space_is_refused_with_both_spaces(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    with pytest.raises(HeadSpaceMismatch) as raised:
        registry.resolve("topic", bytes(32))
    assert (raised.value.wants, raised.value.has) == (SPACE.hex(), "0" * 64)


def test_head_that_calls_itself_otherwise_is_refused(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head("mood"))
    (registry.root / "topic").mkdir()
    (registry.root / "mood" / "1").rename(registry.root / "topic" / "1")
    with pytest.raises(HeadInvalid, match="calls itself mood@1"):
        registry.resolve("topic@1")


def test_folder_that_is_a_link_is_not_a_version(registry: HeadRegistry, make_head: MakeHead, tmp_path: Path) -> None:
    registry.publish(make_head())
    (registry.root / "topic" / "1").rename(tmp_path / "outside")
    (registry.root / "topic" / "1").symlink_to(tmp_path / "outside")
    with pytest.raises(HeadNotFound):
        registry.resolve("topic@1")


def test_what_a_dead_writer_left_is_cleared_by_the_next(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    orphan = registry.root / ".staging-dead"
    orphan.mkdir()
    (orphan / "head.json").write_text("half")
    assert registry.names() == ["topic"]
    registry.publish(make_head())
    assert not orphan.exists()


def test_many_writers_at_once_lose_no_version(registry: HeadRegistry, make_head: MakeHead) -> None:
    threads = [threading.Thread(target=registry.publish, args=(make_head(seed=seed),)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert registry.versions("topic") == list(range(1, 9))
    assert registry.pointing("topic")["current"] == tuple(range(1, 9))


def test_listing_names_the_reason_of_a_refused_version(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head())
    registry.publish(make_head())
    (registry.root / "topic" / "2" / "head.safetensors").unlink()
    good, bad = registry.listing()
    assert (good.refused, good.aliases) == ("", ())
    assert (bad.manifest, bad.aliases) == (None, ("current",))
    assert "head.safetensors" in bad.refused
