"""Limits on what one content may cost: bytes, pixels, sides."""

from __future__ import annotations

from dataclasses import dataclass

from embedder.errors import LimitExceeded


@dataclass(frozen=True, slots=True)
class MediaLimits:
    """How large one content may be; all are read before any work is spent on it.

    Attributes:
        max_text_bytes: length of a text in UTF-8.
        max_image_bytes: length of an image file.
        max_image_pixels: width times height of an image; decoding takes up to 11 bytes of memory for each.
        max_image_side: the longer side of an image in pixels.
    """

    max_text_bytes: int = 262_144
    max_image_bytes: int = 20 * 1024 * 1024
    max_image_pixels: int = 50_000_000
    max_image_side: int = 16_384

    def check(self, field: str, given: int) -> None:
        """Compare one value with its limit.

        Args:
            field: the limit's name, such as `max_text_bytes`.
            given: the content's value, in the unit of that name.
        Raises:
            LimitExceeded: the value is over the limit.
        """
        limit: int = getattr(self, field)
        if given > limit:
            raise LimitExceeded(f"{field}={limit}, and {given} were given", field=field, limit=limit, given=given)
