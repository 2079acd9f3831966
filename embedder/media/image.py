"""Images: one file's bytes to upright 8-bit RGB.

What is decided here is part of `PREPROCESSING_VERSION`, and so of every image's key:
EXIF orientation is applied; CMYK is converted without its colour profile; 16-bit grey keeps its high byte (scaled, not
clipped); palettes and grey become RGB; transparent pixels are composited on white; an animation is its first frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile

from embedder.errors import InvalidContent
from embedder.media.image_header import open_image
from embedder.media.limits import MediaLimits

PREPROCESSING_VERSION = 1
"""Raised whenever the same file and parameters give other pixels than before."""

_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SWAPPING = {_UPRIGHT[orientation] for orientation in (5, 6, 7, 8)}  # width and height
_WITHOUT_WHITE = {"I", "F"}


def decode_image(data: bytes, limits: MediaLimits) -> npt.NDArray[np.uint8]:
    """Decode one image file.

    Args:
        data: a whole JPEG, PNG, WebP, GIF, BMP or TIFF file.
        limits: applied to the header before any pixel is decoded.
    Returns:
        (height, width, 3) uint8, RGB, upright.
    Raises:
        InvalidContent: the file is none of these formats, is broken, or ends early.
        LimitExceeded: the file or the image is too large.
    """
    return np.asarray(load_image(data, limits).image)


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A decoded image, perhaps reduced by its decoder.

    Attributes:
        image: upright, of mode RGB.
        width: of the whole image upright, before any reduction.
        height: likewise.
    """

    image: Image.Image
    width: int
    height: int


def load_image(
    data: bytes, limits: MediaLimits, *, needed: Callable[[int, int], tuple[int, int]] | None = None
) -> LoadedImage:
    """Decode one image file as `decode_image` does, to a Pillow image.

    Args:
        data: a whole image file.
        limits: applied to the header before any pixel is decoded.
        needed: stored width and height to the least ones that will do; a JPEG is then decoded at a half, a quarter or an
            eighth of its size where that is enough, which leaves out most of the work.
    """
    image = open_image(data, limits)
    if image.mode in _WITHOUT_WHITE:
        raise InvalidContent("pixels of 32 bits have no defined white; send the image with 8 or 16 bits a channel")
    name = image.format
    try:
        whole = image.size
        reduced = needed is not None and image.draft(None, needed(*whole)) is not None
        image.load()
        method = _upright_method(image)
        upright = _to_rgb(image if method is None else image.transpose(method))
        if not reduced:
            return LoadedImage(upright, *upright.size)
        return LoadedImage(upright, *(whole[::-1] if method in _SWAPPING else whole))
    except Exception as error:  # on hostile bytes the decoders raise a dozen unrelated types
        raise InvalidContent(f"the {name} image is truncated or corrupt: {error}") from error


def _upright_method(image: ImageFile.ImageFile) -> Image.Transpose | None:
    try:
        return _UPRIGHT.get(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - broken EXIF fails in many ways, and the pixels are whole
        return None


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        high_byte = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return Image.fromarray(high_byte).convert("RGB")
    if image.has_transparency_data:
        # Premultiplied forms convert to their straight one only.
        straight = {"La": "LA", "RGBa": "RGBA"}.get(image.mode, image.mode)
        pixels = image.convert(straight).convert("RGBA")
        white = Image.new("RGBA", pixels.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, pixels).convert("RGB")
    return image.convert("RGB")
