"""Images: every accepted format and kind becomes upright 8-bit RGB."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from embedder.errors import InvalidContent
from embedder.media.image import decode_image
from embedder.media.limits import MediaLimits

LIMITS = MediaLimits()


@pytest.mark.parametrize(
    ("file_format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WebP", {"lossless": True}, 0),
        ("WebP", {"quality": 95}, 4),
        ("JPEG", {"quality": 95, "subsampling": 0}, 2),
        ("JPEG", {"quality": 95, "subsampling": 0, "progressive": True}, 2),
    ],
)
def test_each_format_gives_the_pixels_that_were_saved(image_file, photo, file_format, options, tolerance) -> None:
    decoded = decode_image(image_file(photo, file_format, **options), LIMITS)
    assert decoded.dtype == np.uint8
    assert decoded.shape == photo.shape
    assert np.abs(decoded.astype(int) - photo).mean() <= tolerance


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(image_file, photo, orientation: int) -> None:
    stored = Image.fromarray(photo)
    exif = stored.getexif()
    exif[0x0112] = orientation
    upright = {
        1: photo,
        2: photo[:, ::-1],
        3: photo[::-1, ::-1],
        4: photo[::-1],
        5: photo.transpose(1, 0, 2),
        6: np.rot90(photo, -1),
        7: photo[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(photo, 1),
    }[orientation]
    for file_format, options in (("PNG", {}), ("TIFF", {}), ("WebP", {"lossless": True})):
        decoded = decode_image(image_file(stored, file_format, exif=exif, **options), LIMITS)
        np.testing.assert_array_equal(decoded, upright, err_msg=file_format)


def test_broken_exif_leaves_the_pixels_as_stored(image_file, photo) -> None:
    decoded = decode_image(image_file(photo, "PNG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff broken"), LIMITS)
    np.testing.assert_array_equal(decoded, photo)


def test_sixteen_bit_grey_is_scaled_and_not_clipped(image_file) -> None:
    ramp = np.linspace(0, 65_535, 256, dtype=np.uint16).reshape(16, 16)
    for file_format in ("PNG", "TIFF"):
        decoded = decode_image(image_file(ramp, file_format), LIMITS)
        np.testing.assert_array_equal(decoded[..., 0], ramp >> 8, err_msg=file_format)
        np.testing.assert_array_equal(decoded[..., 0], decoded[..., 2], err_msg=file_format)


def test_thirty_two_bit_pixels_are_refused_in_words(image_file) -> None:
    with pytest.raises(InvalidContent, match="8 or 16 bits"):
        decode_image(image_file(np.zeros((4, 4), np.float32), "TIFF"), LIMITS)


def test_cmyk_becomes_rgb(image_file, photo) -> None:
    cmyk = Image.fromarray(photo).convert("CMYK")
    for file_format in ("TIFF", "JPEG"):
        decoded = decode_image(image_file(cmyk, file_format, quality=95), LIMITS)
        assert np.abs(decoded.astype(int) - photo).mean() < 3, file_format


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_grey_bilevel_and_palette_become_rgb(image_file, photo, mode: str) -> None:
    picture = Image.fromarray(photo).convert(mode)
    decoded = decode_image(image_file(picture, "PNG"), LIMITS)
    np.testing.assert_array_equal(decoded, np.asarray(picture.convert("RGB")))


def test_a_palette_index_without_a_colour_is_black(image_file) -> None:
    picture = Image.new("P", (4, 4), 9)
    picture.putpalette([250, 250, 250, 200, 200, 200])
    np.testing.assert_array_equal(decode_image(image_file(picture, "BMP"), LIMITS), 0)


def test_transparent_pixels_are_composited_on_white(image_file) -> None:
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[0, 0] = (200, 0, 0, 255)
    rgba[0, 1] = (0, 0, 0, 128)
    decoded = decode_image(image_file(rgba, "PNG"), LIMITS)
    np.testing.assert_array_equal(decoded[0, 0], (200, 0, 0))
    np.testing.assert_allclose(decoded[0, 1], 127, atol=1)
    np.testing.assert_array_equal(decoded[1], 255)


@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_a_single_transparent_colour_becomes_white(image_file, mode: str) -> None:
    picture = Image.new(mode, (4, 4), 0)
    transparency = (0, 0, 0) if mode == "RGB" else 0
    assert (decode_image(image_file(picture, "PNG", transparency=transparency), LIMITS) == 255).all()


def test_grey_with_alpha_is_composited(image_file) -> None:
    picture = Image.new("LA", (4, 4), (0, 0))
    assert (decode_image(image_file(picture, "PNG"), LIMITS) == 255).all()


@pytest.mark.parametrize(("file_format", "options"), [("GIF", {}), ("WebP", {"lossless": True}), ("PNG", {})])
def test_an_animation_is_its_first_frame(image_file, file_format: str, options: dict) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    data = image_file(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100, **options)
    np.testing.assert_array_equal(decode_image(data, LIMITS), np.asarray(frames[0]))
