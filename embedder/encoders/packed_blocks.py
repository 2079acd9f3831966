"""Transformer blocks over packed tokens: the post-norm block of BERT's family and the gated pre-norm block of ModernBERT."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional

from embedder.encoders.packed_attention import PackedAttention, ScoreBias
from embedder.encoders.packed_layout import PackedLayout
from embedder.encoders.packed_linear import PackedLinear

Rotations = Mapping[str, tuple[torch.Tensor, torch.Tensor]]
"""By layer type: cosine and sine of each token's rotation, both (rows, 1, 1, head_dim / 2) float32."""


class Norm:
    """Layer normalization with float32 weights, whatever the dtype of its input: as exact, and faster, than 16-bit ones."""

    def __init__(self, norm: nn.Module, device: torch.device) -> None:
        """Take an `nn.LayerNorm`'s weights; an `nn.Identity` normalizes nothing."""
        self._norm = None if isinstance(norm, nn.Identity) else norm
        self.weight: torch.Tensor | None = None
        self.bias: torch.Tensor | None = None
        self.eps = 0.0
        if isinstance(norm, nn.LayerNorm):
            self._shape = norm.normalized_shape
            self.weight = norm.weight.detach().float().to(device)
            self.bias = None if norm.bias is None else norm.bias.detach().float().to(device)
            self.eps = norm.eps

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Normalize each row of (tokens, width)."""
        if self._norm is None:
            return x
        weight, bias = self.weight, self.bias
        if x.is_cuda:
            assert weight is not None
            weight, bias = weight.to(x.dtype), None if bias is None else bias.to(x.dtype)
        return functional.layer_norm(x, self._shape, weight, bias, self.eps)


class PackedBlock(Protocol):
    """One layer of a transformer."""

    def __call__(self, x: torch.Tensor, layout: PackedLayout, rotations: Rotations) -> torch.Tensor:
        """Map (rows, width) to the same shape; the rows behind the tokens mean nothing, in input and output."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PostNormBlock:
    """Attention and a feed-forward layer, each added to its input and then normalized.

    Attributes:
        heads: attention heads.
        attention: how attention runs.
        bias: added to the scores.
        qkv: (width) to (3 * heads * head_dim); queries scaled; neither keys nor values have a bias.
        out: back to (width), with what the values' bias comes to.
        up: to the intermediate width, with its activation.
        down: back to (width).
        attention_norm: behind the attention.
        output_norm: behind the feed-forward layer.
    Source: Vaswani et al. 2017, section 3.1.
    """

    heads: int
    attention: PackedAttention
    bias: ScoreBias | None
    qkv: PackedLinear
    out: PackedLinear
    up: PackedLinear
    down: PackedLinear
    attention_norm: Norm
    output_norm: Norm

    def __call__(self, x: torch.Tensor, layout: PackedLayout, rotations: Rotations) -> torch.Tensor:
        """Map (rows, width) to the same shape."""
        # Padding reads such a row: without biases its keys and values are zero, so it adds nothing anywhere.
        x[layout.tokens :].zero_()
        qkv = self.qkv(x).view(len(x), 3, self.heads, -1)
        mixed = self.attention.attend(qkv, layout, self.bias)
        x = self.attention_norm(self.out.add_to(mixed, x))
        return self.output_norm(self.down.add_to(self.up(x), x))


@dataclass(frozen=True, slots=True, kw_only=True)
class GatedPreNormBlock:
    """Attention with rotary positions and a gated feed-forward layer, each normalized before and added after.

    Attributes:
        heads: attention heads.
        attention: how attention runs.
        bias: added to the scores: a sliding window in local layers.
        layer_type: which rotations apply.
        attention_norm: before the attention.
        qkv: (width) to (3 * heads * head_dim); queries scaled; no bias.
        out: back to (width).
        feed_norm: before the feed-forward layer.
        up: to the intermediate width, with its activation.
        gate: to the intermediate width; multiplies `up`.
        down: back to (width).
    Source: Warner et al. 2024, section 2.1 (ModernBERT); Su et al. 2021 (rotary positions).
    """

    heads: int
    attention: PackedAttention
    bias: ScoreBias | None
    layer_type: str
    attention_norm: Norm
    qkv: PackedLinear
    out: PackedLinear
    feed_norm: Norm
    up: PackedLinear
    gate: PackedLinear
    down: PackedLinear

    def __call__(self, x: torch.Tensor, layout: PackedLayout, rotations: Rotations) -> torch.Tensor:
        """Map (rows, width) to the same shape."""
        x[layout.tokens :].zero_()
        normed = self.attention_norm(x)
        # The norm's bias would give padding a key; see PostNormBlock.
        normed[layout.tokens :].zero_()
        qkv = self.qkv(normed).view(len(x), 3, self.heads, -1)
        _rotate(qkv[:, :2], *rotations[self.layer_type])
        x = self.out.add_to(self.attention.attend(qkv, layout, self.bias), x)
        normed = self.feed_norm(x)
        return self.down.add_to(self.up(normed).mul_(self.gate(normed)), x)


def _rotate(query_key: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> None:
    """Rotate queries and keys (rows, 2, heads, head_dim) in place; halves of head_dim are the rotated pairs."""
    first, second = query_key.float().chunk(2, dim=-1)
    rotated = torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)
    query_key.copy_(rotated)
