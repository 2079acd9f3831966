"""One name, two spaces: an alias means, in each, the last version of that space that it pointed to."""

from __future__ import annotations

import pytest

from embedder.spaces.bound_heads import bound_heads, promote_successors
from embedder_heads import HeadRegistry, HeadRuntime
from embedder_heads.errors import HeadSpaceMismatch

from .conftest import SPACE, Floats, MakeHead

NEW_SPACE = bytes(reversed(range(32)))


def versions(runtime: HeadRuntime, vectors: Floats, ref: str) -> tuple[int, int]:
    runtime.refresh()
    return tuple(runtime.predict(vectors, [ref], space)[0].version for space in (SPACE, NEW_SPACE))  # type: ignore[return-value]


def test_name_means_a_version_in_each_space(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    registry.publish(make_head("topic"), alias="prod")
    runtime = HeadRuntime(registry)
    registry.publish(make_head("topic", space=NEW_SPACE))
    assert versions(runtime, vectors, "topic") == (1, 2)
    registry.publish(make_head("topic"))
    assert versions(runtime, vectors, "topic") == (3, 2)
    with pytest.raises(HeadSpaceMismatch):
        runtime.predict(vectors, ["topic@prod"], NEW_SPACE)
    registry.promote("topic@2", "prod")
    assert versions(runtime, vectors, "topic@prod") == (1, 2)
    served = {head.manifest.version: head.aliases for head in runtime.snapshot.served()}
    assert served == {1: ("prod",), 2: ("current", "prod"), 3: ("current",)}


def test_number_means_itself_in_every_space(registry: HeadRegistry, make_head: MakeHead, vectors: Floats) -> None:
    registry.publish(make_head("topic"))
    registry.publish(make_head("topic", space=NEW_SPACE))
    runtime = HeadRuntime(registry)
    with pytest.raises(HeadSpaceMismatch):
        runtime.predict(vectors, ["topic@1"], NEW_SPACE)


def test_heads_of_a_space_are_listed_with_their_successors(registry: HeadRegistry, make_head: MakeHead) -> None:
    registry.publish(make_head("ready"))
    registry.publish(make_head("ready", space=NEW_SPACE))
    registry.publish(make_head("waiting"), alias="prod")
    registry.publish(make_head("waiting", space=NEW_SPACE), make_current=False)
    registry.publish(make_head("missing"))
    registry.publish(make_head("other", space=NEW_SPACE))
    found = {head.reference: (head.version, head.successor, head.is_promoted) for head in _bound(registry)}
    assert found == {
        "missing": (1, 0, False),
        "ready": (1, 2, True),
        "waiting": (1, 2, False),
        "waiting@prod": (1, 2, False),
    }


def test_successors_are_promoted_and_the_old_space_notices_nothing(
    registry: HeadRegistry, make_head: MakeHead, vectors: Floats
) -> None:
    registry.publish(make_head("topic"), alias="prod")
    registry.publish(make_head("topic", space=NEW_SPACE), make_current=False)
    runtime = HeadRuntime(registry)
    assert [head.reference for head in promote_successors(registry, _bound(registry))] == ["topic", "topic@prod"]
    assert versions(runtime, vectors, "topic") == versions(runtime, vectors, "topic@prod") == (1, 2)
    assert not promote_successors(registry, _bound(registry))


def _bound(registry: HeadRegistry):  # type: ignore[no-untyped-def]
    return bound_heads(registry, SPACE.hex(), NEW_SPACE.hex())
