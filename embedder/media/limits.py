"""Limits on what one content may cost: bytes, pixels, sides, memory, time."""

from __future__ import annotations

from dataclasses import dataclass

from embedder.errors import LimitExceeded


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """How large one content may be, read before any work is spent on it; and what that work may take.

    Attributes:
        max_text_bytes: length of a text in UTF-8.
        max_image_bytes: length of an image file.
        max_image_pixels: width times height of an image; decoding takes up to 11 bytes of memory for each.
        max_image_side: the longer side of an image in pixels.
        max_image_scans: passes over a progressive JPEG; each costs as much time as a picture.
        max_decode_memory_bytes: memory of a decode worker for one file, beside its libraries and the pixels that it hands over.
        max_decode_cpu_ms: processor milliseconds of a decode worker for one file.
        max_decode_ms: milliseconds for one file from start to end, after which its worker counts as hung.
        max_video_bytes: length of a video file.
        max_video_pixels: width times height of a video's frames.
        max_video_seconds: length of a video in time.
        max_video_frames: frames that are decoded of a video.
        max_video_sampled_frames: frames that are understood of a video; each is encoded.
        max_video_memory_bytes: as `max_decode_memory_bytes`, for a video.
        max_video_cpu_ms: as `max_decode_cpu_ms`, for a video.
        max_video_ms: as `max_decode_ms`, for a video; the time that its frames take elsewhere does not count.
    """

    max_text_bytes: int = 262_144
    max_image_bytes: int = 20 * 1024 * 1024
    max_image_pixels: int = 50_000_000
    max_image_side: int = 16_384
    max_image_scans: int = 100
    max_decode_memory_bytes: int = 1 << 30
    max_decode_cpu_ms: int = 10_000
    max_decode_ms: int = 60_000
    max_video_bytes: int = 256 * 1024 * 1024
    max_video_pixels: int = 8_912_896
    max_video_seconds: int = 600
    max_video_frames: int = 36_000
    max_video_sampled_frames: int = 600
    max_video_memory_bytes: int = 1 << 30
    max_video_cpu_ms: int = 60_000
    max_video_ms: int = 300_000

    def check(self, field: str, given: int) -> None:
        """Compare one value with its limit.

        Args:
            field: the limit's name, such as `max_text_bytes`.
            given: the content's value, in the unit of that name.
        Raises:
            LimitExceeded: the value is over the limit.
        """
        if given > getattr(self, field):
            raise self.exceeded(field, given, f"and {given} were given")

    def exceeded(self, field: str, given: int, words: str) -> LimitExceeded:
        """Return the error of a content that is over a limit; `words` say how."""
        limit: int = getattr(self, field)
        return LimitExceeded(f"{field}={limit}, {words}", field=field, limit=limit, given=given)
