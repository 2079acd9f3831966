"""How near a served image's vector is to the one by open_clip's own preprocessing, over photographs of many sizes."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from open_clip.transform import image_transform_v2
from PIL import Image

from embedder.encoders.base import Pixels
from embedder.encoders.default_space.model import PREPROCESS
from embedder.encoders.default_space.photographs import Photograph, packaged_photographs
from embedder.encoders.load import load_encoder
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.media.limits import MediaLimits

SIZES = ((225, 225), (300, 400), (640, 480), (1024, 768), (1920, 1080), (2048, 2731))
"""Width and height in pixels: from hardly larger than the model's own to several times reduced by the JPEG decoder."""

_FORMATS = (("JPEG", {"quality": 90}), ("PNG", {"compress_level": 1}), ("WebP", {"quality": 90}))


def photograph_files(photographs: Sequence[Photograph], sizes: Sequence[tuple[int, int]] = SIZES) -> Iterator[bytes]:
    """Yield each photograph as its own file, and then at each size; formats take turns."""
    for row, photograph in enumerate(photographs):
        yield photograph.path.read_bytes()
        picture = Image.open(photograph.path).convert("RGB")
        for column, size in enumerate(sizes):
            file = io.BytesIO()
            # JPEG at every second turn: only its decoder reduces.
            turn = row + column
            file_format, options = _FORMATS[0 if turn % 2 else 1 + turn // 2 % 2]
            picture.resize(size, Image.Resampling.LANCZOS).save(file, file_format, **options)
            yield file.getvalue()


def preparation_cosines(encoder: TowerEncoder, files: Sequence[bytes]) -> npt.NDArray[np.float32]:
    """Return each file's cosine, (n,) float32, between its served vector and the library's own.

    Served: our decoder and resize, in the encoder's numerics. The library's: Pillow, open_clip's transform, each image alone in float32.
    """
    served = encoder.encode_images([encoder.prepare_image(file) for file in files])
    expected = encoder.encode_images_exact([_reference_pixels(file) for file in files])
    cosines: npt.NDArray[np.float32] = (served * expected).sum(axis=1)
    return cosines


def measure_preparation() -> dict[str, Any]:
    """Load the default space as it is served, and measure `preparation_cosines` over all photographs and sizes."""
    encoder = load_encoder("default", device="cpu", limits=MediaLimits())
    try:
        cosines = preparation_cosines(encoder, list(photograph_files(packaged_photographs())))
    finally:
        encoder.close()
    return {
        "date": time.strftime("%Y-%m-%d"),
        "files": len(cosines),
        "sizes": len(SIZES),
        "min_cosine": round(float(cosines.min()), 6),
        "median_cosine": round(float(np.median(cosines)), 7),
    }


def _reference_pixels(file: bytes) -> Pixels:
    """Return (3, size, size) uint8 by open_clip's evaluation transform; what it does after is the normalization."""
    resize, crop, to_rgb, *_ = image_transform_v2(PREPROCESS, is_train=False).transforms
    square = to_rgb(crop(resize(Image.open(io.BytesIO(file)))))
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))
