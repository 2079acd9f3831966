"""Posts and videos on the wire: what a call asks of them, and the segments that it gets."""

from __future__ import annotations

import math

from embedder.engine.contents import CompositeOptions, EmbedOutcome
from embedder.errors import InvalidRequest
from embedder.server.replies import vectors_message
from embedder_client.v1 import embedding_service_pb2 as pb


def composite_options(post: pb.PostOptions, segments: pb.SegmentOptions | None = None) -> CompositeOptions:
    """Read how a call's posts are fused, and which segments of its videos it wants.

    Raises:
        InvalidRequest: a number is out of range, or two options contradict each other.
    """
    weights = dict(post.field_weights)
    if weights and post.fusion:
        raise InvalidRequest(f"post.fusion={post.fusion!r} and post.field_weights are both set; give one of them")
    for name, weight in weights.items():
        if not (math.isfinite(weight) and weight >= 0):
            raise InvalidRequest(f"post.field_weights[{name!r}]={weight}; weights are 0 or more, and finite")
    seconds = None if segments is None else segments.seconds
    if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
        raise InvalidRequest(f"segments.seconds={seconds}; lengths are 0 (the service's) or more, and finite")
    return CompositeOptions(post.fusion, weights or None, seconds)


def segment_messages(outcome: EmbedOutcome, options: pb.VectorOptions) -> list[pb.VideoSegments]:
    """Tell the segments of each video, in the order of asking."""
    return [
        pb.VideoSegments(
            index=index,
            start_seconds=segments.start_s.tolist(),
            end_seconds=segments.end_s.tolist(),
            vectors=vectors_message(segments.vectors, options),
        )
        for index, segments in sorted(outcome.segments.items())
    ]
