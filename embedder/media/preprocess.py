"""Preprocessing: an upright RGB image to the square of pixels that a model takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from embedder.media.image import PREPROCESSING_VERSION, load_image
from embedder.media.limits import MediaLimits

ResizeMode = Literal["shortest", "longest", "squash"]
Interpolation = Literal["bicubic", "bilinear"]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


@dataclass(frozen=True, slots=True)
class PixelTransform:
    """A model's way from an image to its input, up to the normalization (which the encoder does on its device).

    The pixels equal those of open_clip's evaluation transform: Pillow's antialiased resize and a centre crop.

    Attributes:
        size: height and width of the result in pixels.
        resize_mode: `shortest` side to `size` and crop; `longest` side to `size` and pad; `squash` both.
        interpolation: the resize's filter.
        fill: value of the padding, 0 to 255.
    """

    size: int
    resize_mode: ResizeMode = "shortest"
    interpolation: Interpolation = "bicubic"
    fill: int = 0

    @property
    def identity(self) -> str:
        """Everything here that shapes the pixels, with the version of the decoding, as one line of text."""
        return (
            f"version={PREPROCESSING_VERSION},size={self.size},resize={self.resize_mode},"
            f"interpolation={self.interpolation},fill={self.fill}"
        )

    def prepare(self, data: bytes, limits: MediaLimits) -> npt.NDArray[np.uint8]:
        """Decode one image file and bring it to the model's size.

        Args:
            data: a whole image file.
            limits: applied to the header before any pixel is decoded.
        Returns:
            (3, size, size) uint8.
        Raises:
            InvalidContent: the file can't be decoded.
            LimitExceeded: the file or the image is too large.
        """
        return self._to_square(load_image(data, limits))

    def apply(self, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Bring (height, width, 3) uint8 RGB, such as a video's frame, to (3, size, size) uint8."""
        return self._to_square(Image.fromarray(image))

    def _to_square(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        width, height = self._resized_size(*image.size)
        if self.resize_mode == "longest":
            resized = image.resize((width, height), _FILTERS[self.interpolation])
            square = Image.new("RGB", (self.size, self.size), (self.fill,) * 3)
            # The padding's smaller half stands left and above, as in the reference.
            square.paste(resized, ((self.size - width) // 2, (self.size - height) // 2))
        else:
            # Only the crop's part is resized: cheaper, and a picture of 1 x 16,384 never grows to 224 x 3,670,016.
            left, top = round((width - self.size) / 2.0), round((height - self.size) / 2.0)
            x_scale, y_scale = image.width / width, image.height / height
            box = (left * x_scale, top * y_scale, (left + self.size) * x_scale, (top + self.size) * y_scale)
            square = image.resize((self.size, self.size), _FILTERS[self.interpolation], box=box)
        return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))  # (3, size, size)

    def _resized_size(self, width: int, height: int) -> tuple[int, int]:
        if self.resize_mode == "squash":
            return self.size, self.size
        if self.resize_mode == "longest":
            ratio = max(width, height) / self.size
            return max(1, round(width / ratio)), max(1, round(height / ratio))
        if width <= height:
            return self.size, int(self.size * height / width)
        return int(self.size * width / height), self.size
