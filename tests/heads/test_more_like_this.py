"""More like this: near the history, never the seen, recent items first, new items at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.building import build_index
from embedder_heads.index.vector_index import VectorIndex
from embedder_heads.recommendation.more_like_this import history_profile, more_like_this

Floats = npt.NDArray[np.float32]


@pytest.fixture
def index(tmp_path: Path) -> VectorIndex:
    """Ten items around one axis, then ten around another; ids say which."""
    drawn = 0.1 * np.random.default_rng(0).standard_normal((20, 16)).astype(np.float32)
    drawn[:10, 0] += 1
    drawn[10:, 1] += 1
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    ids = [f"left-{row}" for row in range(10)] + [f"right-{row}" for row in range(10)]
    metadata = [{"year": row} for row in range(20)]
    build_index(tmp_path, drawn, ids, metadata, space_digest=bytes(32), name="items", version=1)
    return VectorIndex(tmp_path)


def test_what_is_found_is_like_the_history_and_unseen(index: VectorIndex) -> None:
    hits = more_like_this(index, 7, history_ids=["left-1", "left-4"])
    assert len(hits) == 7
    assert all(hit.id.startswith("left-") for hit in hits)
    assert not {"left-1", "left-4"} & {hit.id for hit in hits}


def test_the_recent_past_weighs_more(index: VectorIndex) -> None:
    history = [f"left-{row}" for row in range(10)]
    assert more_like_this(index, 1, history_ids=[*history[:3], "right-0"])[0].id.startswith("right-") is False
    vectors = index.vectors_of([*history[:3], "right-0"])
    profile = history_profile(vectors, half_life_items=0.2)
    assert profile @ vectors[-1] > 0.95
    np.testing.assert_allclose(np.linalg.norm(profile), 1.0, rtol=1e-6)


def test_contents_count_as_more_recent_than_ids_and_filters_hold(index: VectorIndex) -> None:
    new = index.vectors_of(["right-9"])
    hits = more_like_this(
        index,
        20,
        history_ids=["left-0"],
        history_vectors=new,
        exclude=["right-1"],
        filters={"year": list(range(10, 13))},
    )
    assert {hit.id for hit in hits} == {"right-0", "right-2"}


def test_unknown_ids_are_skipped_but_not_all_of_them(index: VectorIndex) -> None:
    assert more_like_this(index, 1, history_ids=["gone", "left-2"])
    with pytest.raises(QueryInvalid, match="none of the history"):
        more_like_this(index, 1, history_ids=["gone"])


def test_history_that_cancels_itself_out_follows_its_last_item() -> None:
    vectors = np.array([[1, 0], [-1, 0]], np.float32)
    np.testing.assert_array_equal(history_profile(vectors, half_life_items=1e9), vectors[-1])
