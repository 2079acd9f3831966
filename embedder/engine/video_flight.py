"""A video on its way: how videos are understood, the calls that wait for one, and what became of it."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import ContentItem, EmbedOptions, HalfVectors
from embedder.engine.timeline import Timeline
from embedder.errors import DeadlineExpired
from embedder.media.frame_sampling import FrameSampling
from embedder.media.limits import MediaLimits


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """How videos are understood.

    Attributes:
        sampling: which frames are taken.
        limits: how large one video may be.
        workers: videos that are decoded and encoded at once; each holds one frame and a batch's pixels.
        max_waiting: videos that may wait for their turn; beyond, calls are refused.
        segment_s: length of a segment where a call names none; 0 makes one of each frame.
        timeline_bytes: memory for the timelines of known videos.
    """

    sampling: FrameSampling = field(default_factory=FrameSampling)
    limits: MediaLimits = field(default_factory=MediaLimits)
    workers: int = 2
    max_waiting: int = 64
    segment_s: float = 5.0
    timeline_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class EncodedVideo:
    """What became of one video.

    Attributes:
        vector: (dim,) float16, pooled.
        timeline: its frames.
        frames: (n, dim) float16, theirs.
        sources: (n,) uint8 of `Source`, theirs.
        device_seconds: device time of those that were computed.
        prepare_s: seconds of decoding.
        stored: done when the pooled vector is in the cache.
    """

    vector: npt.NDArray[np.float16]
    timeline: Timeline
    frames: HalfVectors
    sources: npt.NDArray[np.uint8]
    device_seconds: float
    prepare_s: float
    stored: Future[None]


@dataclass(slots=True, eq=False)
class VideoFlight:
    """One video on its way; calls that ask for it meanwhile join.

    Attributes:
        item: the video.
        options: of the call that it is computed for, with the latest deadline of any call that waits.
        future: done with the encoded video, or its error.
    """

    item: ContentItem
    options: EmbedOptions
    future: Future[EncodedVideo] = field(default_factory=Future)

    def check_deadline(self) -> None:
        """Raise DeadlineExpired where nobody waits for the video any more."""
        if time.monotonic() > self.options.deadline:
            raise DeadlineExpired("the call's deadline passed before the video was decoded and encoded")
