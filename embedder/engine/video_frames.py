"""A video's frames: decoded one by one, prepared, and named as contents of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import closing

import numpy as np

from embedder.encoders.base import Pixels, Preparing
from embedder.engine.contents import ContentItem, PreparedContent
from embedder.engine.video_flight import VideoFlight, VideoSettings
from embedder.media.decoding.job import DecodeJob, Decoder
from embedder_client.content_hash import Modality

_FRAME_TAG = b"embedder.v1\0frame\0"


def decode_frames(
    flight: VideoFlight, encoder: Preparing, *, decoder: Decoder, settings: VideoSettings
) -> Generator[tuple[dict[str, int], ContentItem], None, None]:
    """Decode a video; yields each frame's facts, and the frame as a content.

    Args:
        flight: the video; its deadline is looked at before each frame.
        encoder: brings frames to the model's size.
        decoder: runs the decode job.
        settings: which frames, within which limits.
    Raises:
        InvalidContent, LimitExceeded: the file can't be decoded, or costs more than it may.
        DeadlineExpired: nobody waits any more.
    """
    payload = flight.item.payload
    assert payload is not None
    assert not isinstance(payload, PreparedContent)
    job = DecodeJob(
        "video",
        payload,  # type: ignore[arg-type]  # bytes, or a file that is mapped: both are buffers
        settings.limits,
        settings.sampling.to_options(),
        cpu_limit="max_video_cpu_ms",
        wall_limit="max_video_ms",
        memory_limit="max_video_memory_bytes",
    )
    settings.limits.check("max_video_bytes", len(payload))
    flight.check_deadline()
    with closing(decoder.run(job)) as decoding:  # an error on the way gives the worker back at once
        for decoded in decoding:
            flight.check_deadline()
            pixels = encoder.prepare_frame(decoded.pixels)
            yield dict(decoded.facts), ContentItem(hash_frame(pixels), Modality.IMAGE, pixels)


def hash_frame(pixels: Pixels) -> bytes:
    """Name a frame by the pixels that the model sees, (3, size, size) uint8; returns 32 bytes.

    So the same frame is one content in two clips, and in every container of one stream.
    """
    shape = np.array(pixels.shape, "<u8").tobytes()
    return hashlib.sha256(_FRAME_TAG + shape + np.ascontiguousarray(pixels).tobytes()).digest()
