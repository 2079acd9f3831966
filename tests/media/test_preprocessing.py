"""Preprocessing: the pixels of open_clip's own transform, to the last rounding."""

from __future__ import annotations

import io

import numpy as np
import pytest
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose

from embedder.media.image import decode_image, load_image
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

LIMITS = MediaLimits()


@pytest.fixture(params=[(96, 128), (640, 427), (224, 224), (31, 67), (333, 1001), (1, 9)], ids=str)
def noisy_file(request, image_file) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (*request.param, 3), dtype=np.uint8)
    return image_file(noise, "PNG")


@pytest.mark.parametrize("resize_mode", ["shortest", "longest", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_pixels_equal_the_reference_transform(noisy_file, resize_mode, interpolation) -> None:
    reference = image_transform(64, False, resize_mode=resize_mode, interpolation=interpolation, fill_color=7)
    before_normalization = Compose(reference.transforms[:-2])
    expected = np.asarray(before_normalization(Image.open(io.BytesIO(noisy_file)))).transpose(2, 0, 1)
    pixels = PixelTransform(64, resize_mode, interpolation, fill=7).prepare(noisy_file, LIMITS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    # Resizing the crop alone rounds a coordinate differently now and then.
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    assert (pixels != expected).mean() < 0.01


def test_an_array_gives_the_pixels_of_its_file(image_file, photo) -> None:
    transform = PixelTransform(48)
    np.testing.assert_array_equal(transform.apply(photo), transform.prepare(image_file(photo, "PNG"), LIMITS))


def test_identity_names_every_parameter() -> None:
    identities = {
        PixelTransform(64).identity,
        PixelTransform(65).identity,
        PixelTransform(64, "squash").identity,
        PixelTransform(64, interpolation="bilinear").identity,
        PixelTransform(64, fill=1).identity,
    }
    assert len(identities) == 5


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("size", [(1700, 1101), (1101, 1700), (1365, 2048)], ids=str)
def test_a_large_jpeg_is_reduced_by_its_decoder_without_moving(image_file, photo, size, orientation: int) -> None:
    large = Image.fromarray(photo).resize(size, Image.Resampling.BICUBIC)
    exif = large.getexif()
    exif[0x0112] = orientation
    data = image_file(large, "JPEG", quality=90, exif=exif)
    transform = PixelTransform(64)
    assert load_image(data, LIMITS, needed=transform.target.needed_size).pixels.shape[1] < max(size) * 2 / 3
    whole = transform.apply(decode_image(data, LIMITS))
    assert np.abs(transform.prepare(data, LIMITS).astype(int) - whole).mean() < 0.5
