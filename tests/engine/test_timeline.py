"""Segments of a video: where they are cut, and which frames speak for each."""

from __future__ import annotations

import numpy as np
import pytest

from embedder.engine.fusion import MeanFusion
from embedder.engine.timeline import Timeline, Timelines, cut, pool
from embedder.errors import InvalidContent, InvalidRequest

AXES = np.eye(8, dtype=np.float16)


def timeline(*time_s: float, end_s: float) -> Timeline:
    return Timeline(np.array(time_s), end_s, bytes(32 * len(time_s)))


def test_segments_follow_each_other_and_the_last_ends_with_the_video() -> None:
    segments = cut(timeline(0, 1, 2, 3, 4, end_s=4.5), AXES[:5], segment_s=2)
    assert segments.start_s.tolist() == [0, 2, 4]
    assert segments.end_s.tolist() == [2, 4, 4.5]


def test_a_segment_is_of_the_frames_that_begin_in_it() -> None:
    segments = cut(timeline(0, 1, 2, 3, end_s=4), AXES[:4], segment_s=2)
    assert np.allclose(segments.vectors[0], (AXES[0] + AXES[1]) / np.sqrt(2), atol=1e-3)
    assert np.allclose(segments.vectors[1], (AXES[2] + AXES[3]) / np.sqrt(2), atol=1e-3)


def test_a_segment_without_frames_has_the_one_that_is_shown() -> None:
    segments = cut(timeline(0, 5, end_s=6), AXES[:2], segment_s=1)
    assert [int(np.argmax(row)) for row in segments.vectors] == [0, 0, 0, 0, 0, 1]


def test_length_zero_makes_one_segment_of_each_frame() -> None:
    segments = cut(timeline(0, 1.2, 3.04, end_s=10), AXES[:3], segment_s=0)
    assert segments.start_s.tolist() == [0, 1.2, 3.04]
    assert segments.end_s.tolist() == [1.2, 3.04, 10]
    assert np.array_equal(segments.vectors, AXES[:3])


@pytest.mark.parametrize("end_s", [0.3, 0.6, 0.7, 1.1])
def test_rounding_makes_no_empty_segment(end_s: float) -> None:
    segments = cut(timeline(0, end_s=end_s), AXES[:1], segment_s=0.1)
    assert len(segments.start_s) == round(end_s / 0.1)
    assert (segments.end_s > segments.start_s).all()


def test_too_many_segments_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="10000"):
        cut(timeline(0, end_s=600), AXES[:1], segment_s=0.001)


def test_pooled_vectors_have_length_one_and_opposites_are_refused() -> None:
    assert np.linalg.norm(pool(AXES[:3])) == pytest.approx(1.0)
    with pytest.raises(InvalidContent, match="cancel"):
        pool(np.stack([AXES[0], -AXES[0]]))


def test_timelines_keep_their_budget_and_let_go_of_the_oldest() -> None:
    kept = Timelines(max_bytes=2 * (512 + 40))
    for name in (b"a", b"b"):
        kept.put(name, timeline(0, end_s=1))
    assert kept.get(b"a") is not None  # used last now
    kept.put(b"c", timeline(0, end_s=1))
    assert [kept.get(name) is not None for name in (b"a", b"b", b"c")] == [True, False, True]
    assert kept.pop(b"a") is not None
    assert kept.get(b"a") is None


def test_weights_are_checked_and_those_that_weigh_nothing_refused() -> None:
    with pytest.raises(InvalidRequest, match="title"):
        MeanFusion({"title": float("nan")})
    with pytest.raises(InvalidContent, match="weighs 0"):
        MeanFusion({"title": 0.0}).fuse(["title"], AXES[:1].astype(np.float32))


def test_identity_of_a_mean_is_its_weights_in_any_order() -> None:
    assert MeanFusion({"a": 1.0, "b": 2.0}).identity == MeanFusion({"b": 2.0, "a": 1.0}).identity
    assert MeanFusion({"a": 1.0}).identity != MeanFusion({"a": 2.0}).identity
