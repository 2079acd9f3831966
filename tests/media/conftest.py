"""Image files made on the spot."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

ImageFileMaker = Callable[..., bytes]


@pytest.fixture
def image_file() -> ImageFileMaker:
    """Encode an image (Pillow's, or an array) as a file of a format; options go to the encoder."""

    def encode(image: Image.Image | np.ndarray, file_format: str, **options: object) -> bytes:
        file = io.BytesIO()
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        picture.save(file, file_format, **options)
        return file.getvalue()

    return encode


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth colours with some detail, (96, 128, 3) uint8."""
    rows, columns = np.mgrid[0:96, 0:128]
    waves = 20 * np.sin(columns / 5) * np.cos(rows / 7)
    channels = [columns * 1.8 + waves, rows * 2.4 - waves, (rows + columns) * 1.1 + waves]
    return np.clip(np.stack(channels, axis=-1), 0, 255).astype(np.uint8)
