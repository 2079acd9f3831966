"""Videos: one file's bytes to the frames that are understood, upright 8-bit RGB, each with its time.

Decided here: times count from the first frame that is shown, in whole milliseconds; a frame is shown until the next one; rotation
is applied; transparent pixels are composited on white; ten-bit and limited-range colours become 8-bit RGB by swscale, with the
matrix that the stream names; pixels count as square. Frames that are damaged are left out, a file that gives none is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import av
import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from embedder.errors import InvalidContent
from embedder.media.decoding.job import Allocate, Decoded
from embedder.media.frame_sampling import THUMBNAIL_SIDE, FramePicker, FrameSampling
from embedder.media.limits import MediaLimits
from embedder.media.video_container import (
    Buffer,
    check_frame_size,
    check_seconds,
    declared_seconds,
    error_text,
    open_video,
)

_DEFAULT_RATE = Fraction(25)


@dataclass(slots=True)
class _Progress:
    """How far a file has been decoded.

    Attributes:
        frames: frames decoded so far.
        end_ms: when the last of them stops being shown.
    """

    frames: int = 0
    end_ms: int = 0


def run_video_job(
    data: Buffer, limits: MediaLimits, options: Mapping[str, Any], allocate: Allocate
) -> Iterator[Decoded]:
    """Decode a video, and give the frames that its sampling takes.

    Args:
        data: a whole MP4, MOV, WebM, MKV, AVI or GIF file.
        limits: those whose names start with `max_video_` apply.
        options: `FrameSampling.to_options`.
        allocate: where each frame's pixels go.
    Yields:
        Frames with the facts `time_ms`; the last one also with `frames` (decoded in all) and `end_ms`.
    Raises:
        InvalidContent: the format or codec is not accepted, or no frame can be decoded.
        LimitExceeded: the file costs more than it may.
    """
    picker = FramePicker(FrameSampling.from_options(options))
    progress = _Progress()
    held: tuple[VideoFrame, int] | None = None  # given once it is known whether another one follows
    taken = 0
    for frame, time_ms in _frames(data, limits, progress):
        if not picker.takes(time_ms, _thumbnail(frame) if picker.wants_thumbnails else None):
            continue
        taken += 1
        limits.check("max_video_sampled_frames", taken)
        if held is not None:
            yield Decoded(_pixels(held[0], allocate), {"time_ms": held[1]})
        held = frame, time_ms
    if held is None:
        raise InvalidContent("the video holds no frame that can be decoded")
    facts = {"time_ms": held[1], "frames": progress.frames, "end_ms": progress.end_ms}
    yield Decoded(_pixels(held[0], allocate), facts, is_last=True)


def _frames(data: Buffer, limits: MediaLimits, progress: _Progress) -> Iterator[tuple[VideoFrame, int]]:
    """Decode frame by frame; yields each with its time in milliseconds."""
    with open_video(data, limits) as (container, stream):
        rate = stream.average_rate or stream.guessed_rate or _DEFAULT_RATE
        first: Fraction | None = None
        for frame in _decoded(container.demux(stream), stream):
            progress.frames += 1
            limits.check("max_video_frames", progress.frames)
            check_frame_size(frame.width, frame.height, limits)
            shown = _time(frame, progress.frames, rate)
            first = shown if first is None else first
            time_ms = max(0, _whole_ms(shown - first))
            check_seconds(time_ms / 1_000, limits)
            progress.end_ms = time_ms + _whole_ms(_duration(frame, rate))
            yield frame, time_ms
        _check_whole(declared_seconds(stream), progress)


def _decoded(packets: Iterator[av.Packet[Any]], stream: VideoStream) -> Iterator[VideoFrame]:
    """Decode packets; one that the decoder finds damaged is left out, as players do, but a file that is cut off is refused."""
    try:
        for packet in packets:
            if packet.is_corrupt:
                raise InvalidContent("the video is truncated: a frame is cut off")
            try:
                yield from stream.codec_context.decode(None if packet.size == 0 else packet)
            except (av.error.InvalidDataError, av.error.ArgumentError):
                continue
    except av.error.EOFError:
        return
    except av.error.InvalidDataError as error:
        raise InvalidContent(f"the video is truncated or corrupt: {error_text(error)}") from error


def _check_whole(declared_s: float | None, progress: _Progress) -> None:
    """Refuse a video that ends well before its header says."""
    end_s = progress.end_ms / 1_000
    if progress.frames and declared_s is not None and declared_s - end_s > max(1.0, 0.1 * declared_s):
        raise InvalidContent(
            f"the video is truncated: its header says {declared_s:.1f} s, and {end_s:.1f} s could be decoded"
        )


def _time(frame: VideoFrame, number: int, rate: Fraction) -> Fraction:
    if frame.pts is None or frame.time_base is None:  # some AVI streams carry no times
        return Fraction(number - 1) / rate
    return frame.pts * frame.time_base


def _duration(frame: VideoFrame, rate: Fraction) -> Fraction:
    if frame.duration and frame.time_base:
        return frame.duration * frame.time_base
    return 1 / rate


def _whole_ms(seconds: Fraction) -> int:
    return int(seconds * 1_000 + Fraction(1, 2))  # half a millisecond goes up, as in FFmpeg


def _thumbnail(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    small = frame.reformat(width=THUMBNAIL_SIDE, height=THUMBNAIL_SIDE, format="gray")
    return small.to_ndarray().astype(np.uint8, copy=False)


def _pixels(frame: VideoFrame, allocate: Allocate) -> npt.NDArray[np.uint8]:
    """Return a frame as (height, width, 3) uint8 RGB, upright, in allocated memory."""
    turns = round(frame.rotation / 90) % 4
    image = _rgb(frame)
    upright = np.rot90(image, turns) if turns else image
    place = allocate(*upright.shape[:2])
    if place.shape == upright.shape:
        place[...] = upright
        return place
    return upright


def _rgb(frame: VideoFrame) -> npt.NDArray[np.uint8]:
    if not any(component.is_alpha for component in frame.format.components) and not frame.format.has_palette:
        return frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
    rgba = frame.to_ndarray(format="rgba").astype(np.uint16)  # (height, width, 4)
    alpha = rgba[..., 3:]
    return ((rgba[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
