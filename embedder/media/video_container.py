"""Video containers: which of the accepted formats a file is, opened by that format's demuxer and no other.

FFmpeg's own probing would also try playlists and lists of files (HLS, DASH, concat), which open whatever paths and URLs a
stranger wrote into them. Here a file's first bytes pick one demuxer, which reads from memory.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from mmap import mmap

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from embedder.errors import InvalidContent
from embedder.media.limits import MediaLimits

Buffer = bytes | memoryview | mmap
"""A file in memory, or mapped."""

CODECS = frozenset(
    {"av1", "libdav1d", "h263", "h264", "hevc", "vp8", "vp9", "libvpx-vp9", "theora"}
    | {"mpeg1video", "mpeg2video", "mpeg4", "msmpeg4v2", "msmpeg4v3", "svq3", "wmv1", "wmv2"}
    | {"ffv1", "gif", "huffyuv", "mjpeg", "png", "prores", "qtrle", "rawvideo", "utvideo"}
)
"""Decoders that are used: those of the usual cameras, phones, editors and sites, and no rarely tested ones."""

_QUICKTIME_ATOMS = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
_CLOCK = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_FORMATS = "an MP4, MOV, WebM, MKV, AVI or GIF video"
_MAX_PROBED_PIXELS = 1 << 26  # 8K twice over
# The header may not send the demuxer to other files, nor a damaged one let it search for long.
_OPTIONS = {"enable_drefs": "0", "use_absolute_path": "0", "max_streams": "64"}


class _BufferReader(io.RawIOBase):
    """Reads bytes where they lie, without the copy that BytesIO makes of a map or a view."""

    def __init__(self, data: Buffer) -> None:
        self._view = memoryview(data)
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._view)}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = len(self._view) if size is None or size < 0 else self._at + size
        piece = bytes(self._view[self._at : end])
        self._at += len(piece)
        return piece


def container_format(data: Buffer) -> str:
    """Name the demuxer of a file by its first bytes: `mov` (MP4 too), `matroska` (WebM too), `avi` or `gif`.

    Raises:
        InvalidContent: the format is not accepted.
    """
    head = bytes(memoryview(data)[:16])
    if head[4:8] in _QUICKTIME_ATOMS:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "avi"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    raise InvalidContent(f"the file is not {_FORMATS}; playlists and streams by address are never opened")


@contextmanager
def open_video(data: Buffer, limits: MediaLimits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a video file's first video stream, its size and length held against the limits before a frame is decoded.

    Args:
        data: a whole file.
        limits: those whose names start with `max_video_` apply.
    Raises:
        InvalidContent: the format or codec is not accepted, there is no video stream, or the header is broken.
        LimitExceeded: the file, its frames or its length are too large.
    """
    limits.check("max_video_bytes", memoryview(data).nbytes)
    name = container_format(data)
    # Probing may decode the first frame, and obeys `max_pixels` here; what it refuses has no size to tell the sender of.
    options = {**_OPTIONS, "max_pixels": str(max(limits.max_video_pixels, _MAX_PROBED_PIXELS))}
    try:
        container = av.open(_BufferReader(data), "r", format=name, options=options)
    except (av.FFmpegError, ValueError) as error:
        raise InvalidContent(f"the {name} header can't be read: {error_text(error)}") from error
    with container:
        yield container, _first_stream(container, limits)


def _first_stream(container: InputContainer, limits: MediaLimits) -> VideoStream:
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise InvalidContent("the file holds no video stream")
    stream = streams[0]
    context = stream.codec_context
    if context is None:  # a codec that FFmpeg does not know, whatever PyAV's types say
        raise InvalidContent(f"the video's codec is unknown; accepted are {', '.join(sorted(CODECS))}")
    if context.name not in CODECS:
        raise InvalidContent(
            f"videos of codec {context.name} are not decoded; accepted are {', '.join(sorted(CODECS))}"
        )
    check_frame_size(context.width, context.height, limits)
    check_seconds(declared_seconds(stream) or 0.0, limits)
    # A header that lies about the size meets this limit in the decoder.
    context.options = {"max_pixels": str(limits.max_video_pixels)}
    context.thread_count = 1  # processor time and memory are bounded for each file; files are decoded side by side
    return stream


def error_text(error: Exception) -> str:
    """Say what FFmpeg found wrong, without its error's number and the name that a file in memory lacks."""
    return getattr(error, "strerror", None) or str(error)


def declared_seconds(stream: VideoStream) -> float | None:
    """Return a stream's length as its header says; None where it does not."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    written = _CLOCK.fullmatch(stream.metadata.get("DURATION", ""))  # Matroska's, as its usual writers put it
    if written is None:
        return None
    hours, minutes, seconds = map(float, written.groups())
    return 3600 * hours + 60 * minutes + seconds


def check_frame_size(width: int, height: int, limits: MediaLimits) -> None:
    """Hold a frame's size against the limits."""
    if width < 1 or height < 1:
        raise InvalidContent(
            f"the video's frames have no pixels, or far more than max_video_pixels={limits.max_video_pixels}"
        )
    limits.check("max_image_side", max(width, height))
    limits.check("max_video_pixels", width * height)


def check_seconds(seconds: float, limits: MediaLimits) -> None:
    """Hold a length against its limit, in whole seconds."""
    if seconds > limits.max_video_seconds:
        raise limits.exceeded("max_video_seconds", round(seconds), f"and the video has {seconds:.1f} s")


def _is_cover(stream: VideoStream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)
