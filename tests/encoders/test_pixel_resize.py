"""The fast way from a file to pixels: Pillow's pixels, and the reference's vectors on real photographs."""

from __future__ import annotations

import io

import numpy as np
import pytest
import skimage.data
from open_clip.transform import image_transform
from PIL import Image
from torchvision.transforms import Compose

from embedder.encoders.pixel_resize import resize_pixels
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

SIZES = [(224, 224), (300, 200), (480, 640), (1000, 500), (2048, 1365), (2600, 1950)]


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("shape", [(300, 451), (120, 90), (30, 61), (64, 64)], ids=str)
def test_pixels_differ_from_pillows_by_one_level_at_most(shape, interpolation) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    transform = PixelTransform(64, interpolation=interpolation)
    fast, exact = transform.apply(noise, resize=resize_pixels), transform.apply(noise)
    assert fast.flags.c_contiguous
    assert np.abs(fast.astype(int) - exact).max() <= 1


def test_a_thin_image_is_not_resized_whole() -> None:
    def refuse(*_: object) -> np.ndarray:
        raise AssertionError("resized whole")

    thin = np.zeros((2, 4000, 3), np.uint8)
    assert PixelTransform(64).apply(thin, resize=refuse).shape == (3, 64, 64)
    assert PixelTransform(64).prepare(_jpeg(Image.fromarray(thin)), MediaLimits(), resize=refuse).shape == (3, 64, 64)


def test_vectors_of_photographs_equal_the_references(load) -> None:
    encoder = load("default")
    reference = Compose(image_transform(encoder.info.image_size, False).transforms[:-2])
    for name in ("astronaut", "chelsea", "rocket"):
        photograph = Image.fromarray(getattr(skimage.data, name)())
        files = [_jpeg(photograph.resize(size, Image.Resampling.BICUBIC)) for size in (photograph.size, *SIZES)]
        expected = [np.asarray(reference(Image.open(io.BytesIO(file)))).transpose(2, 0, 1) for file in files]
        prepared = [encoder.prepare_image(file) for file in files]
        cosines = np.einsum("nd,nd->n", encoder.encode_images(expected), encoder.encode_images(prepared))
        assert cosines.min() >= 0.999, name


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()
