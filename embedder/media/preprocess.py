"""Preprocessing: an upright RGB image to the square of pixels that a model takes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from embedder.media.decoding.job import DecodeJob, Decoder, InlineDecoder
from embedder.media.image import PREPROCESSING_VERSION, LoadedImage
from embedder.media.limits import MediaLimits
from embedder.media.sizes import ResizeMode, TargetSize

Interpolation = Literal["bicubic", "bilinear"]

_HERE = InlineDecoder()
_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}


# A whole image is resized and then cropped while that makes at most this many times the pixels that are wanted.
_MAX_UNCROPPED = 3

Resize = Callable[[npt.NDArray[np.uint8], int, int, Interpolation], npt.NDArray[np.uint8]]
"""(h, w, 3) uint8, height, width and filter to (height, width, 3) uint8; the pixels equal Pillow's but for roundings."""


@dataclass(frozen=True, slots=True)
class PixelTransform:
    """A model's way from an image to its input, up to the normalization (which the encoder does on its device).

    The pixels are those of open_clip's evaluation transform, Pillow's antialiased resize and a centre crop, but for roundings; a
    JPEG of at least twelve times the model's size is first reduced by its decoder, which moves pixels by a fraction of a level.

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

    @property
    def options(self) -> dict[str, Any]:
        """What an image job must know of this."""
        return {
            "size": self.size,
            "resize_mode": self.resize_mode,
            "interpolation": self.interpolation,
            "fill": self.fill,
        }

    @property
    def target(self) -> TargetSize:
        """What images are resized to."""
        return TargetSize(self.size, self.resize_mode)

    def prepare(
        self, data: bytes, limits: MediaLimits, *, decoder: Decoder | None = None, resize: Resize | None = None
    ) -> npt.NDArray[np.uint8]:
        """Decode one image file and bring it to the model's size.

        Args:
            data: a whole image file.
            limits: applied to the header before any pixel is decoded, and to what the decoding takes.
            decoder: where it is decoded; None: here, where only the limits on the header hold.
            resize: a faster one with the pixels of Pillow's; None takes Pillow's own.
        Returns:
            (3, size, size) uint8.
        Raises:
            InvalidContent: the file can't be decoded.
            LimitExceeded: the file or the image is too large, or decoding it takes too much.
        """
        limits.check("max_image_bytes", len(data))
        job = DecodeJob("image", data, limits, self.options)
        with closing((decoder or _HERE).run(job)) as results:
            decoded = next(results)
            if decoded.facts.get("is_square"):
                return _channels_first(decoded.pixels)
            width, height = decoded.facts["width"], decoded.facts["height"]
            return _channels_first(self.square(LoadedImage(decoded.pixels, width, height), resize=resize))

    def apply(self, image: npt.NDArray[np.uint8], *, resize: Resize | None = None) -> npt.NDArray[np.uint8]:
        """Bring (height, width, 3) uint8 RGB, such as a video's frame, to (3, size, size) uint8."""
        height, width = image.shape[:2]
        return _channels_first(self.square(LoadedImage(image, width, height), resize=resize))

    def square(self, loaded: LoadedImage, *, resize: Resize | None = None) -> npt.NDArray[np.uint8]:
        """Resize an image, and crop or pad it, to (size, size, 3) uint8."""
        width, height = self.target.resized_size(loaded.width, loaded.height)
        if self.resize_mode == "longest":
            resized = Image.fromarray(loaded.pixels).resize((width, height), _FILTERS[self.interpolation])
            square = Image.new("RGB", (self.size, self.size), (self.fill,) * 3)
            # The padding's smaller half stands left and above, as in the reference.
            square.paste(resized, ((self.size - width) // 2, (self.size - height) // 2))
            return np.asarray(square)
        left, top = round((width - self.size) / 2.0), round((height - self.size) / 2.0)
        if width * height <= _MAX_UNCROPPED * self.size**2:
            whole = (resize or _resize_by_pillow)(loaded.pixels, height, width, self.interpolation)
            return whole[top : top + self.size, left : left + self.size]
        # Only the crop's part is resized, so that a picture of 1 x 16,384 never grows to 224 x 3,670,016.
        image = Image.fromarray(loaded.pixels)
        x_scale, y_scale = image.width / width, image.height / height
        box = (left * x_scale, top * y_scale, (left + self.size) * x_scale, (top + self.size) * y_scale)
        return np.asarray(image.resize((self.size, self.size), _FILTERS[self.interpolation], box=box))


def _resize_by_pillow(
    image: npt.NDArray[np.uint8], height: int, width: int, interpolation: Interpolation
) -> npt.NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((width, height), _FILTERS[interpolation]))


def _channels_first(square: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(square.transpose(2, 0, 1))  # (3, size, size)
