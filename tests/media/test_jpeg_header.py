"""Headers of plain JPEGs: what they say, and which files are none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embedder.errors import InvalidContent
from embedder.media.image import decode_image
from embedder.media.jpeg_header import PlainJpeg, read_plain_jpeg
from embedder.media.limits import MediaLimits

LIMITS = MediaLimits()


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"subsampling": 0}, {"comment": b"x" * 3000}, {"restart_marker_rows": 1}])
def test_size_of_a_baseline_jpeg_is_read(image_file, photo, mode: str, options: dict) -> None:
    data = image_file(Image.fromarray(photo).convert(mode), "JPEG", **options)
    assert read_plain_jpeg(data) == PlainJpeg(photo.shape[1], photo.shape[0], may_be_turned=False)


@pytest.mark.parametrize("segment", [{"exif": b"Exif\0\0II*\0"}, {"xmp": b"<x:xmpmeta/>"}], ids=["EXIF", "XMP"])
def test_what_may_say_which_way_is_up_is_seen(image_file, photo, segment: dict) -> None:
    plain = read_plain_jpeg(image_file(photo, "JPEG", **segment))
    assert plain is not None
    assert plain.may_be_turned


def test_other_files_are_not_plain(image_file, photo) -> None:
    data = image_file(photo, "JPEG")
    assert read_plain_jpeg(image_file(Image.fromarray(photo).convert("CMYK"), "JPEG")) is None
    assert read_plain_jpeg(image_file(photo, "JPEG", progressive=True)) is None
    assert read_plain_jpeg(image_file(photo, "PNG")) is None
    for length in (0, 3, 20, 100, 300):
        assert read_plain_jpeg(data[:length]) is None


def test_a_second_frame_is_not_plain(image_file, photo) -> None:
    data = image_file(photo, "JPEG")
    frame = data.index(b"\xff\xc0")
    length = 2 + int.from_bytes(data[frame + 2 : frame + 4], "big")
    assert read_plain_jpeg(data[:frame] + 2 * data[frame : frame + length] + data[frame + length :]) is None


def test_further_scans_of_a_plain_jpeg_cost_no_further_pass(image_file, photo) -> None:
    data = image_file(photo, "JPEG")
    scan = data[data.index(b"\xff\xda") : -2]
    whole = decode_image(data, LIMITS)
    for repeated in (data[:-2] + 200 * scan + data[-2:], data + 200 * data):
        try:
            np.testing.assert_array_equal(decode_image(repeated, LIMITS), whole)
        except InvalidContent:
            continue
