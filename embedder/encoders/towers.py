"""Towers: the parts of an encoder that run on the device, one per medium, and the models they are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn

from embedder.encoders.base import Pixels, Tokens
from embedder.encoders.tokenizing import TextTokenizer
from embedder.media.preprocess import PixelTransform


class TextTower(Protocol):
    """Token ids to vectors that are not yet of unit length."""

    @property
    def numerics(self) -> str:
        """Numerics class, such as `bf16-packed`."""
        ...

    def embed(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        ...

    def close(self) -> None:
        """End what the tower started."""
        ...


class ImageTower(Protocol):
    """Pixels to vectors that are not yet of unit length."""

    @property
    def numerics(self) -> str:
        """Numerics class, such as `fp32`."""
        ...

    def embed(self, pixels: Sequence[Pixels]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        ...

    def close(self) -> None:
        """End what the tower started."""
        ...


@dataclass(frozen=True, slots=True)
class Precision:
    """A numerics class and the torch type that it computes in."""

    name: str
    dtype: torch.dtype


DETERMINISTIC = "-deterministic"
"""Ends the numerics class of towers whose vectors are bitwise equal whatever their neighbours."""

FP32 = Precision("fp32", torch.float32)
BF16 = Precision("bf16", torch.bfloat16)
FP16 = Precision("fp16", torch.float16)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel:
    """A text encoder as loaded, in float32 on the CPU; towers are made from it.

    Attributes:
        tokenizer: texts to token ids.
        dim: length of a vector.
        identity: everything that shapes a vector, but for the numerics class.
        module: ids (n, t) int64 and mask (n, t) bool, padded on the right, to (n, dim).
        crops: whether a batch may be cut to its longest text; if not, it is padded to the tokenizer's `max_tokens`.
    """

    tokenizer: TextTokenizer
    dim: int
    identity: dict[str, str]
    module: nn.Module
    crops: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageModel:
    """An image encoder as loaded, in float32 on the CPU; towers are made from it.

    Attributes:
        transform: file to pixels.
        mean: subtracted from each channel, as a share of 255.
        std: each channel is divided by it, as a share of 255.
        dim: length of a vector.
        identity: everything that shapes a vector, but for the numerics class.
        module: (n, 3, size, size) float to (n, dim).
        convolutional: whether the time goes into convolutions, which have a fastest memory format of their own.
    """

    transform: PixelTransform
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    dim: int
    identity: dict[str, str]
    module: nn.Module
    convolutional: bool
