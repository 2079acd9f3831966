"""Pictures that tests send, good and bad, made on the spot."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def photo(name: str = "chelsea") -> Image.Image:
    """Return one of scikit-image's photographs."""
    from skimage import data

    return Image.fromarray(getattr(data, name)())


def as_file(image: Image.Image, form: str, **options: object) -> bytes:
    """Return an image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def rotated_by_exif(image: Image.Image) -> bytes:
    """Return a JPEG that is stored on its side and says so in EXIF: every viewer shows it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6  # turn 90 degrees clockwise to show
    return as_file(image.rotate(90, expand=True), "JPEG", quality=95, exif=exif.tobytes())


def sixteen_bit(image: Image.Image) -> bytes:
    """Return a greyscale PNG of 16 bits a pixel."""
    grey = np.asarray(image.convert("L"), np.uint16) * 257
    return as_file(Image.fromarray(grey), "PNG")


def bomb(side: int = 13_300) -> bytes:
    """Return a small PNG that claims side x side pixels, and holds them, all black."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compressobj(9)
    line = bytes(1 + (side + 7) // 8)
    body = b"".join(rows.compress(line) for _ in range(side)) + rows.flush()
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
