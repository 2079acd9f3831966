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
from embedder.media.decoding.job import Allocate, Frame
from embedder.media.image_header import check_size, open_image
from embedder.media.jpeg_header import read_plain_jpeg
from embedder.media.limits import MediaLimits
from embedder.media.plain_decoders import decode_jpeg, decode_plain

PREPROCESSING_VERSION = 3
"""Raised whenever the same file and parameters give other pixels than before."""

_EXIF_ORIENTATION = 0x0112
_TURNS: dict[int, Callable[[Frame], Frame]] = {
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.transpose(1, 0, 2),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
    8: lambda stored: np.rot90(stored, 1),
}
_SWAPPING = (5, 6, 7, 8)  # width and height
_WITHOUT_WHITE = {"I", "F"}

NeededSize = Callable[[int, int], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class LoadedImage:
    """A decoded image, perhaps reduced by its decoder.

    Attributes:
        pixels: (h, w, 3) uint8, RGB, upright.
        width: of the whole image upright, before any reduction.
        height: likewise.
    """

    pixels: Frame
    width: int
    height: int


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
    return load_image(data, limits).pixels


def load_image(
    data: bytes, limits: MediaLimits, *, needed: NeededSize | None = None, allocate: Allocate | None = None
) -> LoadedImage:
    """Decode one image file as `decode_image` does.

    Args:
        data: a whole image file.
        limits: applied to the header before any pixel is decoded.
        needed: stored width and height to the least ones that will do; a JPEG is then decoded at a half, a quarter or an
            eighth of its size where that is enough, which leaves out most of the work.
        allocate: where the pixels are to be; None: in new memory.
    """
    needed = needed or _whole
    allocate = allocate or _allocate
    limits.check("max_image_bytes", len(data))
    plain = read_plain_jpeg(data)
    if plain is not None and not plain.may_be_turned:
        # Pillow would read the same header again, in as much time as a tenth of the picture takes.
        size = plain.width, plain.height
        check_size(*size, limits)
        if (pixels := decode_jpeg(data, size, needed=needed(*size), allocate=allocate)) is not None:
            return LoadedImage(pixels, *size)
    image = open_image(data, limits)
    if image.mode in _WITHOUT_WHITE:
        raise InvalidContent("pixels of 32 bits have no defined white; send the image with 8 or 16 bits a channel")
    try:
        return _load_opened(image, data, needed, allocate)
    except MemoryError:
        raise
    except Exception as error:  # on hostile bytes the decoders raise a dozen unrelated types
        raise InvalidContent(f"the {image.format} image is truncated or corrupt: {error}") from error


def _load_opened(image: ImageFile.ImageFile, data: bytes, needed: NeededSize, allocate: Allocate) -> LoadedImage:
    whole = image.size
    least = needed(*whole)
    # A PNG's orientation may stand behind its pixels; `decode_plain` takes none that has one.
    orientation = 1 if image.format == "PNG" else _orientation(image)
    turn = _TURNS.get(orientation)
    stored = decode_plain(image, data, needed=least, allocate=allocate if turn is None else _allocate)
    if stored is None:
        image.draft(None, least)  # reduces a JPEG, never below this, and nothing else
        image.load()
        orientation = _orientation(image)
        turn = _TURNS.get(orientation)
        stored = np.asarray(_to_rgb(image))
    upright = stored if turn is None else turn(stored)
    if not (upright.flags.c_contiguous and upright.flags.writeable):
        pixels = allocate(*upright.shape[:2])
        pixels[...] = upright
        upright = pixels
    return LoadedImage(upright, *(whole[::-1] if orientation in _SWAPPING else whole))


def _orientation(image: ImageFile.ImageFile) -> int:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
    except Exception:  # noqa: BLE001 - broken EXIF fails in many ways, and the pixels are whole
        return 1
    return orientation if isinstance(orientation, int) else 1


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


def _whole(width: int, height: int) -> tuple[int, int]:
    return width, height


def _allocate(height: int, width: int) -> Frame:
    return np.empty((height, width, 3), np.uint8)
