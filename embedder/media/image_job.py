"""The decode job of images: one file to one upright picture, whole, reduced by its decoder, or brought to the model's size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from embedder.media.decoding.job import Allocate, Decoded, Frame
from embedder.media.image import load_image
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

MAX_HANDED_PIXELS = 1 << 23
"""A picture that is larger once decoded is resized where it was decoded: what a large file takes stays with its decode worker."""


def run_image_job(data: Any, limits: MediaLimits, options: Mapping[str, Any], allocate: Allocate) -> Iterator[Decoded]:
    """Decode an image file.

    Args:
        data: the whole file, bytes-like.
        limits: applied to the header before any pixel is decoded.
        options: `PixelTransform.options` of the one that the picture will go through; none of them for all its pixels.
        allocate: where to decode to.
    Returns:
        one picture; its facts are `width` and `height` of the whole image, upright, and `is_square` where it went through the
        transform already.
    Raises:
        InvalidContent: the file can't be decoded.
        LimitExceeded: the file or the image is too large.
    """
    if not options:
        loaded = load_image(bytes(data), limits, allocate=allocate)
        yield Decoded(loaded.pixels, {"width": loaded.width, "height": loaded.height}, is_last=True)
        return

    def allocate_here(height: int, width: int) -> Frame:
        is_handed = height * width <= MAX_HANDED_PIXELS
        return allocate(height, width) if is_handed else np.empty((height, width, 3), np.uint8)

    transform = PixelTransform(**options)
    loaded = load_image(bytes(data), limits, needed=transform.target.needed_size, allocate=allocate_here)
    facts = {"width": loaded.width, "height": loaded.height}
    if loaded.pixels.shape[0] * loaded.pixels.shape[1] <= MAX_HANDED_PIXELS:
        yield Decoded(loaded.pixels, facts, is_last=True)
    else:
        yield Decoded(transform.square(loaded), facts | {"is_square": True}, is_last=True)
