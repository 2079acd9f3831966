"""The decode job of images: one file to one upright picture, whole or reduced by its decoder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from embedder.media.decoding.job import Allocate, Decoded
from embedder.media.image import load_image
from embedder.media.limits import MediaLimits
from embedder.media.sizes import TargetSize


def run_image_job(data: Any, limits: MediaLimits, options: Mapping[str, Any], allocate: Allocate) -> Iterator[Decoded]:
    """Decode an image file.

    Args:
        data: the whole file, bytes-like.
        limits: applied to the header before any pixel is decoded.
        options: `size` and `resize_mode` of a `TargetSize` that the picture will be resized to; none of them for all its pixels.
        allocate: where to decode to.
    Returns:
        one picture; its facts are `width` and `height` of the whole image, upright.
    Raises:
        InvalidContent: the file can't be decoded.
        LimitExceeded: the file or the image is too large.
    """
    needed = TargetSize(**options).needed_size if options else None
    loaded = load_image(bytes(data), limits, needed=needed, allocate=allocate)
    yield Decoded(loaded.pixels, {"width": loaded.width, "height": loaded.height}, is_last=True)
