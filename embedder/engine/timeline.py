"""Timelines: which frames a video's vector was made of, and the segments that they fall into."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import HalfVectors, Segments
from embedder.engine.fusion import Floats, unit
from embedder.errors import InvalidRequest

_ENTRY_BYTES = 512  # of a timeline without frames, as Python holds it
_FRAME_BYTES = 40
_MAX_SEGMENTS = 10_000


@dataclass(frozen=True, slots=True)
class Timeline:
    """The frames of one video that were understood.

    Attributes:
        time_s: (n,) float64, when each begins to be shown, from the first frame on.
        end_s: when the last one stops being shown.
        hashes: their content hashes, packed.
    """

    time_s: npt.NDArray[np.float64]
    end_s: float
    hashes: bytes


class Timelines:
    """The timelines of the videos that were used last, within a budget of memory. Thread-safe.

    They let a known video's segments be answered by its hash alone; without its timeline a video is decoded again, and its
    frames come from the cache.
    """

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[bytes, Timeline] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, content_hash: bytes) -> Timeline | None:
        """Return a video's timeline, if it is held."""
        with self._lock:
            timeline = self._kept.get(content_hash)
            if timeline is not None:
                self._kept.move_to_end(content_hash)
            return timeline

    def put(self, content_hash: bytes, timeline: Timeline) -> None:
        """Hold a video's timeline, and let go of those that were not used for longest."""
        with self._lock:
            self._drop(content_hash)
            self._kept[content_hash] = timeline
            self._bytes += _size(timeline)
            while self._bytes > self._max_bytes:
                self._drop(next(iter(self._kept)))

    def pop(self, content_hash: bytes) -> Timeline | None:
        """Let go of a video's timeline, and return it."""
        with self._lock:
            return self._drop(content_hash)

    def _drop(self, content_hash: bytes) -> Timeline | None:
        timeline = self._kept.pop(content_hash, None)
        if timeline is not None:
            self._bytes -= _size(timeline)
        return timeline


def pool(vectors: HalfVectors) -> Floats:
    """Make a video's, or a segment's, vector: the mean of its frames' unit vectors, (n, dim), brought to unit length."""
    return unit(vectors.astype(np.float32).mean(axis=0), "the frames' vectors cancel each other out")


def cut(timeline: Timeline, vectors: HalfVectors, *, segment_s: float) -> Segments:
    """Cut a video into segments [start, end) of one length, the last one shorter; or at its frames, with a length of 0.

    A segment's vector is that of the frames that begin in it; where none does, of the frame that is shown in it.

    Args:
        timeline: the video's frames.
        vectors: (n, dim) float16, theirs.
        segment_s: length of a segment in seconds; 0 makes one of each frame, which are scenes where scenes were sampled.
    Raises:
        InvalidRequest: the segments are too short.
    """
    if segment_s and timeline.end_s / segment_s > _MAX_SEGMENTS:
        raise InvalidRequest(f"segments of {segment_s} s cut {timeline.end_s:.1f} s into more than {_MAX_SEGMENTS}")
    if segment_s:
        count = max(1, int(np.ceil(round(timeline.end_s / segment_s, 6))))
        start_s = np.arange(count, dtype=np.float64) * segment_s
        end_s = np.append(start_s[1:], max(timeline.end_s, float(start_s[-1])))
    else:
        start_s = timeline.time_s
        end_s = np.append(start_s[1:], timeline.end_s)
    first = np.searchsorted(timeline.time_s, start_s, side="left")
    last = np.append(first[1:], len(timeline.time_s))
    rows = [
        pool(vectors[low:high] if high > low else vectors[max(0, low - 1)][None])
        for low, high in zip(first, last, strict=True)
    ]
    return Segments(start_s, end_s, np.stack(rows).astype(np.float16))


def _size(timeline: Timeline) -> int:
    return _ENTRY_BYTES + _FRAME_BYTES * len(timeline.time_s)
