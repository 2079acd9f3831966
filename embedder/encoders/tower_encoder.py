"""The encoder that every loader returns: towers of one space, with their model's preparation in front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch

from embedder.encoders.base import EncoderInfo, Pixels, Tokens, Vectors
from embedder.encoders.device_clock import device_name
from embedder.encoders.library_image import embed_images_exactly
from embedder.encoders.library_text import embed_texts_exactly
from embedder.encoders.pixel_resize import resize_pixels
from embedder.encoders.preparation import Preparation
from embedder.encoders.towers import ImageModel, ImageTower, TextModel, TextTower
from embedder.errors import EncoderError, OutOfDeviceMemory, UnsupportedModality
from embedder.media.decoding.job import Decoder
from embedder.media.limits import MediaLimits

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class TextSide:
    """The text half of an encoder: the model as loaded, and the tower that runs it fast."""

    model: TextModel
    tower: TextTower


@dataclass(frozen=True, slots=True)
class ImageSide:
    """The image half of an encoder: the model as loaded, and the tower that runs it fast."""

    model: ImageModel
    tower: ImageTower


class TowerEncoder:
    """An encoder of texts, images or both, made of towers; see `embedder.encoders.base.Encoder` for its contract."""

    def __init__(
        self,
        info: EncoderInfo,
        limits: MediaLimits,
        *,
        text: TextSide | None = None,
        image: ImageSide | None = None,
        decoder: Decoder | None = None,
    ) -> None:
        """Join the sides.

        Args:
            info: what the encoder is.
            limits: applied to image files before they are decoded.
            text: None where the model has no text tower.
            image: None where the model has no image tower.
            decoder: where image files are decoded; None: in the thread that prepares them.
        """
        self._info = info
        self._limits = limits
        self._text = text
        self._image = image
        self._decoder = decoder

    @property
    def info(self) -> EncoderInfo:
        """What this encoder is; constant over its life."""
        return self._info

    @property
    def preparation(self) -> Preparation:
        """The half of this encoder that needs no weights, for another process."""
        return Preparation(
            info=self._info,
            limits=self._limits,
            tokenizer=self._text.model.tokenizer if self._text else None,
            transform=self._image.model.transform if self._image else None,
            device_name=device_name(self._info.device),
        )

    def prepare_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize; returns token ids, each (t,) int32 with special tokens, cut to `max_tokens`."""
        return self._text_side().model.tokenizer.tokenize(texts)

    def prepare_image(self, data: bytes) -> Pixels:
        """Decode and resize one image file to (3, image_size, image_size) uint8; raises InvalidContent."""
        transform = self._image_side().model.transform
        return transform.prepare(data, self._limits, decoder=self._decoder, resize=resize_pixels)

    def prepare_frame(self, image: Pixels) -> Pixels:
        """Resize an upright RGB picture, (height, width, 3) uint8, to (3, image_size, image_size) uint8."""
        return self._image_side().model.transform.apply(image, resize=resize_pixels)

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        """Encode token ids to (n, dim) float32 of L2 norm 1, in input order; raises EncoderError."""
        return self._unit_vectors(self._text_side().tower.embed, tokens)

    def encode_images(self, pixels: Sequence[Pixels]) -> Vectors:
        """Encode pixels to (n, dim) float32 of L2 norm 1, in input order; raises EncoderError."""
        return self._unit_vectors(self._image_side().tower.embed, pixels)

    def encode_texts_exact(self, tokens: Sequence[Tokens]) -> Vectors:
        """Encode each text alone, in float32, by the library's own forward: the reference; (n, dim) float32."""
        return self._unit_vectors(partial(embed_texts_exactly, self._text_side().model), tokens)

    def encode_images_exact(self, pixels: Sequence[Pixels]) -> Vectors:
        """Encode each image alone, in float32, by the library's own forward: the reference; (n, dim) float32."""
        return self._unit_vectors(partial(embed_images_exactly, self._image_side().model), pixels)

    def close(self) -> None:
        """Free the device's memory; the encoder is not used afterwards."""
        for side in (self._text, self._image):
            if side is not None:
                side.tower.close()
        self._text = None
        self._image = None
        if self._info.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def _text_side(self) -> TextSide:
        if self._text is None:
            raise UnsupportedModality(f"the encoder {self._info.model_id} does not understand texts")
        return self._text

    def _image_side(self) -> ImageSide:
        if self._image is None:
            raise UnsupportedModality(f"the encoder {self._info.model_id} does not understand images")
        return self._image

    def _unit_vectors(self, embed: Callable[[Sequence[_Item]], torch.Tensor], items: Sequence[_Item]) -> Vectors:
        """Run a tower and bring its rows to unit length; what is not finite stays so, for the engine to see."""
        if not items:
            return np.empty((0, self._info.dim), dtype=np.float32)
        try:
            vectors = embed(items).numpy()
        except torch.OutOfMemoryError as error:
            raise OutOfDeviceMemory(f"{len(items)} items do not fit on {self._info.device}: {error}") from error
        except (RuntimeError, ValueError, IndexError) as error:
            raise EncoderError(f"the forward pass failed: {error}") from error
        # By numpy: so little work is done before torch's threads have met for it, where cores are short.
        with np.errstate(all="ignore"):
            unit: Vectors = vectors / np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
        return unit
