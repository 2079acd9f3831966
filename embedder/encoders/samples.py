"""Sample contents that every model can be tried on: a few texts and a drawn image."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SAMPLE_TEXTS = (
    "hello",
    "A cat sleeps on a warm windowsill.",
    "The committee will meet on 14 March 2027 at 9:30 to decide about the budget for new laboratories.",
    "Wie spät ist es? Il est midi. 今日は良い天気です。 Сегодня хорошая погода.",
    "def area(r): return 3.14159 * r ** 2  # square metres",
    "Rain fell all night on the harbour, and by the morning the boats lay low in the water. " * 6,
)
"""Short and long, several scripts, prose and code."""


def sample_image() -> bytes:
    """Draw an image with edges, gradients and all colours; returns a PNG file of 320 x 240."""
    rows, columns = np.mgrid[0:240, 0:320]
    red = columns * 255 // 319
    green = rows * 255 // 239
    blue = np.where((columns - 160) ** 2 + (rows - 120) ** 2 < 80**2, 255, (columns // 20 + rows // 20) % 2 * 90)
    file = io.BytesIO()
    Image.fromarray(np.stack([red, green, blue], axis=-1).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()
