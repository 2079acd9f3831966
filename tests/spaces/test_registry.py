"""The registry of spaces: what it allows, what it remembers, and that writers never lose each other's changes."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from embedder.errors import InvalidRequest, SpaceConflict, SpacesInvalid, UnknownSpace
from embedder.spaces.document import AliasMove, BridgeRow, Shadow, SpaceRow, SpacesDocument, first_document
from embedder.spaces.registry import SpaceRegistry


@pytest.fixture
def document() -> SpacesDocument:
    first = first_document("default@1", model="default", precision="auto")
    return first.with_space(SpaceRow("default@2", "other")).with_space(SpaceRow("default@3", "third"))


def moved(document: SpacesDocument, space: str, **more: object) -> SpacesDocument:
    return document.with_alias(AliasMove("default", "", space, "", **more))  # type: ignore[arg-type]


def test_everything_is_read_back_as_it_was_written(tmp_path: Path, document: SpacesDocument) -> None:
    full = moved(document, "default@2", reason="a better model").with_retired("default@1", erase=True)
    full = full.with_row(SpaceRow("default@3", "third", created="2026-01-01", shadow=Shadow("default", 0.25), dim=8))
    full = full.with_bridge(BridgeRow("b@1", "0" * 64, "1" * 64))
    registry = SpaceRegistry(tmp_path)
    written = registry.change(lambda _: full, first=document)
    assert registry.read() == written
    assert written.spaces == full.spaces
    assert written.moves == full.moves


def test_name_is_used_once(document: SpacesDocument) -> None:
    with pytest.raises(SpaceConflict, match="default@3"):
        document.with_space(SpaceRow("default@2", "again"))
    retired = document.with_retired("default@2", erase=False)
    with pytest.raises(SpaceConflict, match="or was"):
        retired.with_space(SpaceRow("default@2", "again"))
    with pytest.raises(InvalidRequest, match="NAME@VERSION"):
        document.with_space(SpaceRow("Default", "again"))


def test_alias_moves_only_from_where_it_is_expected(document: SpacesDocument) -> None:
    move = AliasMove("default", "", "default@2", "")
    with pytest.raises(SpaceConflict, match="points at default@1, not at default@3"):
        document.with_alias(move, expected="default@3")
    assert document.with_alias(move, expected="default@1").aliases == {"default": "default@2"}
    with pytest.raises(SpaceConflict, match="not at nothing"):
        document.with_alias(move, expected="")
    with pytest.raises(UnknownSpace, match="default@9"):
        document.with_alias(AliasMove("default", "", "default@9", ""))
    with pytest.raises(InvalidRequest, match="alias="):
        document.with_alias(AliasMove("a@1", "", "default@2", ""))


def test_rollback_goes_to_where_the_alias_came_from(document: SpacesDocument) -> None:
    with pytest.raises(UnknownSpace, match="default@1 alone"):
        document.earlier_target("default")
    there = moved(moved(document, "default@2"), "default@3")
    assert there.earlier_target("default") == "default@2"
    back = moved(there, "default@2", is_rollback=True)
    assert back.earlier_target("default") == "default@1"
    assert moved(back, "default@3").earlier_target("default") == "default@2"
    with pytest.raises(UnknownSpace, match="no alias 'other'"):
        document.earlier_target("other")


def test_rollback_does_not_go_to_a_retired_space(document: SpacesDocument) -> None:
    gone = moved(document, "default@2").with_retired("default@1", erase=False)
    with pytest.raises(UnknownSpace, match="retired"):
        gone.earlier_target("default")


def test_space_that_an_alias_points_at_is_not_retired(document: SpacesDocument) -> None:
    with pytest.raises(SpaceConflict, match="alias default points at"):
        document.with_retired("default@1", erase=False)
    with pytest.raises(UnknownSpace, match="was retired"):
        document.with_retired("default@2", erase=False).row("default@2")


def test_served_space_is_not_forgotten(document: SpacesDocument) -> None:
    assert [row.name for row in document.without_space("default@3").spaces] == ["default@1", "default@2"]
    served = document.with_row(SpaceRow("default@3", "third", digest="0" * 64))
    with pytest.raises(SpaceConflict, match="retire it"):
        served.without_space("default@3")


def test_many_writers_lose_no_change(tmp_path: Path) -> None:
    first = first_document("default@1", model="default", precision="auto")

    def add(number: int) -> None:
        SpaceRegistry(tmp_path).change(lambda d: d.with_space(SpaceRow(f"s{number}@1", "m")), first=first)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    document = SpaceRegistry(tmp_path).read()
    assert document is not None
    assert {row.name for row in document.spaces} == {"default@1", *(f"s{number}@1" for number in range(40))}
    assert document.revision == 40


def test_refused_change_leaves_the_registry_as_it_was(tmp_path: Path, document: SpacesDocument) -> None:
    registry = SpaceRegistry(tmp_path)
    registry.change(lambda d: d, first=document)
    before, signature = registry.path.read_bytes(), registry.signature()
    with pytest.raises(SpaceConflict):
        registry.change(lambda d: d.with_space(SpaceRow("default@2", "again")))
    assert (registry.path.read_bytes(), registry.signature()) == (before, signature)


def test_there_is_no_registry_until_something_is_changed(tmp_path: Path) -> None:
    assert SpaceRegistry(tmp_path).read() is None
    with pytest.raises(SpacesInvalid, match="no registry"):
        SpaceRegistry(tmp_path).change(lambda d: d)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: "{", "not JSON"),
        (lambda d: json.dumps({**d, "schema": 9}), "schema 9"),
        (lambda d: json.dumps({**d, "aliases": {"default": "default@7"}}), "default@7"),
        (lambda d: json.dumps({**d, "spaces": d["spaces"] * 2}), "twice"),
        (lambda d: json.dumps({**d, "default_alias": "nobody"}), "nobody"),
        (lambda d: json.dumps([]), "no registry"),
        (lambda d: json.dumps({**d, "spaces": [{"name": "x@1"}]}), "no registry"),
    ],
)
def test_damaged_registry_is_refused_with_words(tmp_path: Path, document: SpacesDocument, damage, words) -> None:  # type: ignore[no-untyped-def]
    registry = SpaceRegistry(tmp_path)
    registry.change(lambda d: d, first=document)
    registry.path.write_text(damage(json.loads(registry.path.read_text())))
    with pytest.raises(SpacesInvalid, match=words):
        registry.read()
