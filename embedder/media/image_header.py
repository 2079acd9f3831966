"""Image headers: which of the accepted formats a file is, opened with its size known and no pixel decoded."""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from embedder.errors import InvalidContent, LimitExceeded
from embedder.media.limits import MediaLimits

_OPENERS: tuple[tuple[bytes, str, Callable[[io.BytesIO], ImageFile.ImageFile]], ...] = (
    (b"\xff\xd8\xff", "JPEG", JpegImageFile),
    (b"\x89PNG\r\n\x1a\n", "PNG", PngImageFile),
    (b"GIF87a", "GIF", GifImageFile),
    (b"GIF89a", "GIF", GifImageFile),
    (b"BM", "BMP", BmpImageFile),
    (b"II*\0", "TIFF", TiffImageFile),
    (b"MM\0*", "TIFF", TiffImageFile),
    (b"II+\0", "TIFF", TiffImageFile),
    (b"MM\0+", "TIFF", TiffImageFile),
)
_JPEG_SCAN = b"\xff\xda"
_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323


def open_image(data: bytes, limits: MediaLimits) -> ImageFile.ImageFile:
    """Open an image file up to its header and hold its size against the limits.

    The plug-ins of the accepted formats are used directly: Pillow's own `open` would try more of them by the
    process-wide registry, and apply a process-wide pixel limit of its own.

    Args:
        data: a whole image file.
        limits: `max_image_bytes`, `max_image_side`, `max_image_pixels` and `max_image_scans` apply.
    Returns:
        The opened image; its pixels are not decoded yet.
    Raises:
        InvalidContent: the format is not accepted, or the header is broken.
        LimitExceeded: the file or the image is too large.
    """
    limits.check("max_image_bytes", len(data))
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        # The WebP decoder allocates its canvas when it is opened, so the size is read before.
        check_size(*_webp_size(data), limits)
        return _open_format(WebPImageFile, "WebP", data)
    for magic, name, opener in _OPENERS:
        if data.startswith(magic):
            image = _open_format(opener, name, data)
            check_size(*image.size, limits)
            if isinstance(image, TiffImageFile):
                # A tile is decoded whole, also when the image is smaller than it.
                check_size(_tile_side(image, _TIFF_TILE_WIDTH), _tile_side(image, _TIFF_TILE_LENGTH), limits)
            if name == "JPEG" and "progression" in image.info:
                # A scan may be almost empty and still costs a pass over the whole picture.
                limits.check("max_image_scans", data.count(_JPEG_SCAN))
            return image
    raise InvalidContent("the file is not a JPEG, PNG, WebP, GIF, BMP or TIFF image")


def check_size(width: int, height: int, limits: MediaLimits) -> None:
    """Hold an image's size against the limits."""
    if width < 1 or height < 1:
        raise InvalidContent(f"the image has no pixels: {width} x {height}")
    limits.check("max_image_side", max(width, height))
    limits.check("max_image_pixels", width * height)


def _open_format(opener: Callable[[io.BytesIO], ImageFile.ImageFile], name: str, data: bytes) -> ImageFile.ImageFile:
    try:
        return opener(io.BytesIO(data))
    except LimitExceeded:
        raise
    except Exception as error:  # on hostile bytes the plug-ins raise a dozen unrelated types
        raise InvalidContent(f"the {name} header can't be read: {error}") from error


def _tile_side(image: TiffImageFile, tag: int) -> int:
    side = image.tag_v2.get(tag, 1)
    return side if isinstance(side, int) else max(side)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Read width and height from a WebP file's first chunk (RFC 9649, section 2)."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise InvalidContent("the WebP header can't be read: the file is truncated")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(body[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(body[6:8], "little") & 0x3FFF, int.from_bytes(body[8:10], "little") & 0x3FFF
    raise InvalidContent(f"the WebP header can't be read: unknown chunk {chunk!r}")
