"""Resizing by torch: the pixels of Pillow's antialiased resize, several times as fast."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from embedder.media.preprocess import Interpolation


def resize_pixels(
    image: npt.NDArray[np.uint8], height: int, width: int, interpolation: Interpolation
) -> npt.NDArray[np.uint8]:
    """Resize one image with antialiasing, in 8-bit fixed point, as Pillow does; 3 to 5 times as fast (measured on an AMD EPYC).

    Args:
        image: (h, w, 3) uint8, writable.
        height: of the result.
        width: of the result.
        interpolation: the filter.
    Returns:
        (height, width, 3) uint8, within one level of Pillow's; where Pillow resizes the rows before the columns, single pixels of
        noise differ by more, since each of the two passes rounds.
    """
    channels_last = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.inference_mode():
        resized = functional.interpolate(channels_last, size=(height, width), mode=interpolation, antialias=True)
    pixels: npt.NDArray[np.uint8] = resized[0].permute(1, 2, 0).numpy()
    return pixels
