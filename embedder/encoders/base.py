"""The Encoder interface: what the engine asks of a model, and what names the space it makes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedder_client.content_hash import Modality

Tokens = npt.NDArray[np.int32]
Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class EncoderInfo:
    """What a loaded encoder is.

    Attributes:
        model_id: the model as its setting names it, for people.
        dim: length of a vector.
        modalities: media that the encoder understands by itself.
        max_tokens: texts are cut to this many tokens, special tokens included.
        image_size: height and width of the pixels that it takes; 0 without an image tower.
        numerics: numerics class, such as `fp32` or `bf16-packed`; vectors of two classes never share a key.
        device: `cpu`, `cuda:0`, ...
        identity: everything that shapes a vector (weights digest, tokenizer, preprocessing, pooling, ...), from the loaded model.
    """

    model_id: str
    dim: int
    modalities: frozenset[Modality]
    max_tokens: int
    image_size: int
    numerics: str
    device: str
    identity: Mapping[str, str]

    @property
    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.model_id}, {', '.join(sorted(self.modalities))}, dim {self.dim}, {self.numerics} on {self.device}"
        )

    @property
    def space_digest(self) -> bytes:
        """32 bytes that name the embedding space: SHA-256 of the identity as canonical JSON."""
        canonical = json.dumps(dict(self.identity), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).digest()


class Preparing(Protocol):
    """The half of an encoder that needs no weights; may be called from any thread."""

    @property
    def info(self) -> EncoderInfo:
        """What the encoder is; constant over its life."""
        ...

    def prepare_texts(self, texts: Sequence[str]) -> list[Tokens]:
        """Tokenize; returns token ids, each (t,) int32 with special tokens, cut to `max_tokens`."""
        ...

    def prepare_image(self, data: bytes) -> Pixels:
        """Decode and resize one image file to (3, image_size, image_size) uint8; raises InvalidContent."""
        ...

    def prepare_frame(self, image: Pixels) -> Pixels:
        """Resize an upright RGB picture, (height, width, 3) uint8, to (3, image_size, image_size) uint8."""
        ...


class Encoder(Preparing, Protocol):
    """A model that turns prepared contents into unit vectors of one space; `encode_*` is called from one thread at a time."""

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        """Encode token ids to (n, dim) float32 of L2 norm 1, in input order; raises `embedder.errors.EncoderError`."""
        ...

    def encode_images(self, pixels: Sequence[Pixels]) -> Vectors:
        """Encode pixels to (n, dim) float32 of L2 norm 1, in input order; raises `embedder.errors.EncoderError`."""
        ...

    def encode_texts_exact(self, tokens: Sequence[Tokens]) -> Vectors:
        """Encode each text alone, in float32, by the model's own library: the reference, and slow.

        What stands in for a row of `encode_texts` that is not finite: 16-bit and 8-bit arithmetic may overflow where float32
        does not. A row that is not finite here either has no vector in this model.

        Args:
            tokens: as `encode_texts` takes them.
        Returns:
            (n, dim) float32 of L2 norm 1, in input order, within the numerics class's tolerance of what `encode_texts` gives.
        Raises:
            EncoderError: the forward pass failed.
        """
        ...

    def encode_images_exact(self, pixels: Sequence[Pixels]) -> Vectors:
        """Encode each image alone, in float32, by the model's own library; see `encode_texts_exact`."""
        ...

    def close(self) -> None:
        """Free the device's memory; the encoder is not used afterwards."""
        ...
