"""Attention over packed texts: by blocks of similar lengths on the CPU, by a variable-length kernel on CUDA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch.nn import functional

from embedder.encoders.base import Tokens
from embedder.encoders.host_copies import to_device
from embedder.encoders.packed_layout import MAX_BLOCK_LENGTH, Bucket, PackedLayout, lay_out, lay_out_blocks

# Within these a row's largest weight, and its product with any value, lie where float32 and bf16, of one range, hold them.
LEAST_SUM, MOST_SUM = 1e-20, 1e36


class ScoreBias(Protocol):
    """What a layer adds to its attention scores, by the tokens' distance."""

    def for_length(self, length: int) -> torch.Tensor | None:
        """Return (heads or 1, length, length), or None where nothing is added at this length."""
        ...


@dataclass(frozen=True, slots=True)
class RelativeBias:
    """A learned bias for each distance and head (MPNet); `table` is (heads, max_length, max_length)."""

    table: torch.Tensor

    def for_length(self, length: int) -> torch.Tensor | None:
        """Return (heads, length, length)."""
        return self.table[:, :length, :length]


@dataclass(frozen=True, slots=True)
class SlidingWindow:
    """Attention only to tokens at most `reach` away (ModernBERT's local layers)."""

    reach: int
    like: torch.Tensor

    def for_length(self, length: int) -> torch.Tensor | None:
        """Return (1, length, length) of 0 and minus infinity, or None where all tokens are within reach."""
        if length <= self.reach + 1:
            return None
        place = torch.arange(length, device=self.like.device)
        far = (place[:, None] - place[None, :]).abs() > self.reach
        return torch.zeros_like(far, dtype=self.like.dtype).masked_fill_(far, -torch.inf)[None]


class PackedAttention(Protocol):
    """One way to run attention over packed texts."""

    def lay_out(self, texts: Sequence[Tokens], padding_id: int | None) -> PackedLayout:
        """Lay out texts, longest first, as `attend` needs them."""
        ...

    def attend(self, qkv: torch.Tensor, layout: PackedLayout, bias: ScoreBias | None) -> torch.Tensor:
        """Attend within each text.

        Args:
            qkv: (rows, 3, heads, head_dim); queries are scaled already; keys and values of the rows behind the tokens are zero.
            layout: where the texts lie.
            bias: added to the scores.
        Returns:
            (rows, heads * head_dim); the rows behind the tokens mean nothing.
        """
        ...


class BlockAttention:
    """Attention as batched matrix products over texts of similar lengths; for CPUs.

    A fused kernel spends most of its time between the many small products of short texts: it takes 3 to 5 times as long
    as this does on texts of 10 to 256 tokens (measured on an AMD EPYC with AVX512 BF16, one thread, bf16).
    Scores are exponentiated as they are, which saves two passes over them. Where they are too far from 0 for that, which
    the sums of the weights tell, the bucket is computed again with each row's largest score taken off. all-MiniLM-L6-v2 has
    scores to 80 in many texts, and beyond 88 in 5 of 5,919 mails (measured): Chinese that was read as Latin-1. Padded keys are
    rows of zeros with no weight.
    """

    def __init__(self, heads: int, dtype: torch.dtype) -> None:
        """Remember the model's number of heads and what it computes in."""
        self._heads = heads
        self._dtype = dtype

    def lay_out(self, texts: Sequence[Tokens], padding_id: int | None) -> PackedLayout:
        """Lay out texts, longest first, in buckets of similar lengths."""
        return lay_out_blocks(texts, padding_id, heads=self._heads, dtype=self._dtype)

    def attend(self, qkv: torch.Tensor, layout: PackedLayout, bias: ScoreBias | None) -> torch.Tensor:
        """Attend within each text; see `PackedAttention`."""
        assert layout.scatter is not None
        head_dim = qkv.shape[-1]
        rows = qkv.view(-1, head_dim)
        mixed = rows.new_empty((sum(len(bucket.gather) for bucket in layout.buckets) // 3, head_dim))
        filled = 0
        for bucket in layout.buckets:
            batch = bucket.texts * self._heads
            query, key, value = rows.index_select(0, bucket.gather).view(3, batch, bucket.length, head_dim)
            block = mixed[filled : filled + batch * bucket.length].view(batch, bucket.length, head_dim)
            added = None if bias is None else bias.for_length(bucket.length)
            if bucket.length > MAX_BLOCK_LENGTH:
                block.copy_(functional.scaled_dot_product_attention(query, key, value, attn_mask=added, scale=1.0))
            else:
                scores = torch.bmm(query, key.transpose(1, 2))  # (batch, length, length)
                if added is not None:
                    _add_bias(scores, bucket, added)
                weights = scores.exp_()
                sums = torch.bmm(weights, bucket.valid)  # (batch, length, 1)
                if not _in_range(sums):
                    weights = _shifted_weights(torch.bmm(query, key.transpose(1, 2)), bucket, added)
                    sums = torch.bmm(weights, bucket.valid)
                torch.bmm(weights, value, out=block)
                block.div_(sums)
            filled += batch * bucket.length
        return mixed.index_select(0, layout.scatter).view(len(qkv), -1)


def _add_bias(scores: torch.Tensor, bucket: Bucket, added: torch.Tensor) -> None:
    """Add (heads or 1, length, length) to the (texts * heads, length, length) scores of every text."""
    scores.view(bucket.texts, -1, bucket.length, bucket.length).add_(added)


def _in_range(sums: torch.Tensor) -> bool:
    """Tell whether sums of weights lie so far from 0 and infinity that none of them lost its weights."""
    least, most = sums.aminmax()
    return bool((least > LEAST_SUM) & (most < MOST_SUM))


def _shifted_weights(scores: torch.Tensor, bucket: Bucket, added: torch.Tensor | None) -> torch.Tensor:
    """Return the weights of scores less the largest of each row: the same but for a factor of the row, and at most 1."""
    if added is not None:
        _add_bias(scores, bucket, added)
    scores.masked_fill_(bucket.valid.transpose(1, 2) == 0, -torch.inf)
    return scores.sub_(scores.amax(dim=2, keepdim=True)).exp_()


@dataclass(frozen=True, slots=True)
class VarlenLayout(PackedLayout):
    """A layout with what a variable-length kernel needs.

    Attributes:
        bounds: (texts + 2,) int32, where each text starts; the row of zeros is a text of its own.
        longest: the longest text's length.
    """

    bounds: torch.Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int32))
    longest: int = 0


class VarlenAttention:
    """Attention by torch's variable-length flash kernel; for CUDA, in 16 bits."""

    def __init__(self, device: torch.device) -> None:
        """Remember where the model runs."""
        self._device = device

    def lay_out(self, texts: Sequence[Tokens], padding_id: int | None) -> VarlenLayout:
        """Lay out texts end to end and copy the layout to the device."""
        plain = lay_out(texts, padding_id)
        ends = plain.lengths.cumsum(0)
        bounds = torch.cat([torch.zeros(1, dtype=torch.int64), ends, ends[-1:] + 1]).int()
        return VarlenLayout(
            tokens=plain.tokens,
            ids=to_device(plain.ids, self._device),
            positions=to_device(plain.positions, self._device),
            lengths=to_device(plain.lengths, self._device),
            bounds=to_device(bounds, self._device),
            longest=max(map(len, texts)),
        )

    def attend(self, qkv: torch.Tensor, layout: PackedLayout, bias: ScoreBias | None) -> torch.Tensor:
        """Attend within each text; see `PackedAttention`. The only bias is a sliding window."""
        from torch.nn.attention.varlen import varlen_attn

        assert isinstance(layout, VarlenLayout)
        assert bias is None or isinstance(bias, SlidingWindow)
        reach = -1 if bias is None else bias.reach
        query, key, value = qkv.unbind(1)
        mixed = varlen_attn(
            query,
            key,
            value,
            layout.bounds,
            layout.bounds,
            layout.longest,
            layout.longest,
            scale=1.0,
            window_size=(reach, reach),
        )
        assert isinstance(mixed, torch.Tensor)
        return mixed.reshape(len(qkv), -1)
