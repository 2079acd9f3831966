"""Images that must cost little: bombs, wrong types, broken files."""

from __future__ import annotations

import random
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from embedder.errors import InvalidContent, LimitExceeded
from embedder.media.image import decode_image
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

LIMITS = MediaLimits()
FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")


def png_of_one_colour(width: int, height: int) -> bytes:
    """A 1-bit PNG whose pixels compress to almost nothing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress(bytes((width + 7) // 8 + 1) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_bomb_is_refused_before_any_pixel_is_decoded() -> None:
    bomb = png_of_one_colour(13_300, 13_300)
    assert len(bomb) < 30_000
    tracemalloc.start()
    with pytest.raises(LimitExceeded, match="max_image_pixels=50000000") as caught:
        decode_image(bomb, LIMITS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (caught.value.field, caught.value.given) == ("max_image_pixels", 176_890_000)
    assert peak_bytes < 1_000_000


@pytest.mark.parametrize(("width", "height"), [(1, 100_000), (100_000, 1)])
def test_a_side_over_the_limit_is_refused(width: int, height: int) -> None:
    with pytest.raises(LimitExceeded, match="max_image_side=16384"):
        decode_image(png_of_one_colour(width, height), LIMITS)


def test_a_file_over_the_limit_is_refused(image_file, photo) -> None:
    data = image_file(photo, "BMP")
    with pytest.raises(LimitExceeded) as caught:
        decode_image(data, MediaLimits(max_image_bytes=1000))
    assert (caught.value.field, caught.value.limit, caught.value.given) == ("max_image_bytes", 1000, len(data))


@pytest.mark.parametrize("file_format", FORMATS)
def test_every_format_is_held_to_the_pixel_limit(image_file, file_format: str) -> None:
    data = image_file(Image.new("RGB", (64, 64)), file_format)
    with pytest.raises(LimitExceeded, match="max_image_pixels"):
        decode_image(data, MediaLimits(max_image_pixels=64 * 64 - 1))
    assert decode_image(data, MediaLimits(max_image_pixels=64 * 64)).shape == (64, 64, 3)


@pytest.mark.parametrize("options", [{"lossless": True}, {"quality": 80}, {"lossless": True, "exif": b"Exif\0\0II*\0"}])
def test_every_kind_of_webp_header_is_read(image_file, options: dict) -> None:
    data = image_file(Image.new("RGB", (70, 30), "teal"), "WebP", **options)
    with pytest.raises(LimitExceeded) as caught:
        decode_image(data, MediaLimits(max_image_side=60))
    assert caught.value.given == 70


def test_a_huge_tile_in_a_small_tiff_is_refused() -> None:
    entries = [(256, 3, 8), (257, 3, 8), (258, 3, 8), (259, 3, 1), (262, 3, 1), (322, 4, 60_000), (323, 4, 60_000)]
    entries += [(324, 4, 8), (325, 4, 8)]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    tiff = b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4)
    with pytest.raises(LimitExceeded, match="max_image_side"):
        decode_image(tiff, LIMITS)


def test_a_thin_image_does_not_grow_when_it_is_resized() -> None:
    tracemalloc.start()
    pixels = PixelTransform(224).prepare(png_of_one_colour(1, 16_000), LIMITS)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert pixels.shape == (3, 224, 224)
    assert peak_bytes < 5_000_000


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"%PDF-1.7", b"<svg/>", b"RIFF\0\0\0\0WEBP", b"\x89PNG\r\n\x1a\n", b"BM"]
)
def test_what_is_no_image_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(InvalidContent, match=r"JPEG|PNG|WebP|BMP"):
        decode_image(data, LIMITS)


def test_a_zero_sized_image_is_refused() -> None:
    with pytest.raises(InvalidContent):
        decode_image(png_of_one_colour(0, 10), LIMITS)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_truncated_file_is_refused_and_named(image_file, photo, file_format: str) -> None:
    data = image_file(photo, file_format)
    with pytest.raises(InvalidContent, match=f"(?i){file_format}"):
        decode_image(data[: len(data) * 2 // 3], LIMITS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("file_format", FORMATS)
def test_mutated_files_are_decoded_or_refused_and_nothing_else(image_file, photo, file_format: str) -> None:
    original = image_file(photo, file_format)
    random_bytes = random.Random(file_format)
    for _ in range(60):
        mutant = bytearray(original)
        for _ in range(random_bytes.randint(1, 12)):
            mutant[random_bytes.randrange(len(mutant))] = random_bytes.randrange(256)
        try:
            decoded = decode_image(bytes(mutant[: random_bytes.randint(1, len(mutant))]), LIMITS)
        except InvalidContent:
            continue
        assert decoded.dtype == np.uint8
        assert decoded.shape[2] == 3
