"""The layout of packed texts: tokens end to end, and where attention finds each text's queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from embedder.encoders.base import Tokens

_Rows = npt.NDArray[np.int64]

# Rows and lengths are multiples of this: the processor's library makes a kernel for each new shape of a product, which took a
# tenth of a batch (measured, texts of a mean of 39 tokens) where every number of tokens was a shape of its own.
SHAPE_STEP = 8
# A bucket is closed when padding has cost it as many scores as starting another one does (measured, per head and layer).
_MAX_WASTED_SCORES = 10_000
# Longer texts are their own bucket: their scores would not fit into the caches, and attention goes another way.
MAX_BLOCK_LENGTH = 1_024
# Scores of one bucket, all heads together; bounds the memory of a batch of long texts.
_MAX_BUCKET_SCORES = 16_777_216


@dataclass(frozen=True, slots=True)
class Bucket:
    """Texts of similar lengths, whose attention runs as one batched product.

    Attributes:
        texts: how many.
        length: of the longest or a little more; the shorter ones are padded with the row of zeros.
        gather: (3 * texts * heads * length,) int64, rows of the projected (rows, 3, heads, head_dim):
            all queries, all keys, all values.
        valid: (texts * heads, length, 1), 1 where there is a token and 0 where there is padding.
    """

    texts: int
    length: int
    gather: torch.Tensor
    valid: torch.Tensor


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where everything of a chunk of packed texts lies. At least one row of zeros stands behind the last token.

    Attributes:
        tokens: how many there are; the rows from here on are the rows of zeros.
        ids: (rows,) int64.
        positions: (rows,) int64, row of the position table for each token.
        lengths: (texts,) int64.
        buckets: for attention by blocks.
        scatter: (rows * heads,) int64, rows of the buckets' results, one after the other, in packed order.
    """

    tokens: int
    ids: torch.Tensor
    positions: torch.Tensor
    lengths: torch.Tensor
    buckets: tuple[Bucket, ...] = ()
    scatter: torch.Tensor | None = None


def lay_out(texts: Sequence[Tokens], padding_id: int | None, *, step: int = 1) -> PackedLayout:
    """Lay texts end to end.

    Args:
        texts: token ids of each, longest first.
        padding_id: the RoBERTa family's, where positions count from behind it and a padding token in the text has none;
            None where positions count from 0.
        step: what the number of rows is a multiple of.
    """
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    tokens = int(lengths.sum())
    zeros = np.zeros(_round_up(tokens + 1, step) - tokens, dtype=np.int64)
    return PackedLayout(
        tokens=tokens,
        ids=torch.from_numpy(np.concatenate([*texts, zeros], dtype=np.int64)),
        positions=torch.from_numpy(np.concatenate([*(_positions(ids, padding_id) for ids in texts), zeros])),
        lengths=torch.from_numpy(lengths),
    )


def lay_out_blocks(texts: Sequence[Tokens], padding_id: int | None, *, heads: int, dtype: torch.dtype) -> PackedLayout:
    """Lay texts end to end as `lay_out` does, with the buckets that attention by blocks needs.

    Args:
        texts: token ids of each, longest first.
        padding_id: see `lay_out`.
        heads: attention heads of the model.
        dtype: what attention computes in.
    """
    plain = lay_out(texts, padding_id, step=SHAPE_STEP)
    lengths = plain.lengths.numpy()
    starts = np.concatenate([[0], np.cumsum(lengths)])
    buckets: list[Bucket] = []
    scatter = np.zeros((len(plain.ids), heads), dtype=np.int64)
    filled = 0
    for first, last in _bucket_bounds(lengths, heads):
        bucket = slice(first, last)
        count, length = last - first, _block_length(int(lengths[first]))
        valid = np.arange(length) < lengths[bucket, None]  # (texts, length)
        rows = np.where(valid, starts[bucket, None] + np.arange(length), plain.tokens)  # (texts, length)
        buckets.append(Bucket(count, length, _gather_rows(rows, heads), _valid_column(valid, heads, dtype)))
        text, place = np.nonzero(valid)
        head = np.arange(heads)
        scatter[rows[text, place]] = filled + (text[:, None] * heads + head) * length + place[:, None]
        filled += count * heads * length
    return PackedLayout(
        tokens=plain.tokens,
        ids=plain.ids,
        positions=plain.positions,
        lengths=plain.lengths,
        buckets=tuple(buckets),
        scatter=torch.from_numpy(scatter.reshape(-1)),
    )


def _round_up(count: int, step: int) -> int:
    return -(-count // step) * step


def _block_length(longest: int) -> int:
    return longest if longest > MAX_BLOCK_LENGTH else _round_up(longest, SHAPE_STEP)


def _positions(ids: Tokens, padding_id: int | None) -> _Rows:
    if padding_id is None:
        return np.arange(len(ids), dtype=np.int64)
    real = ids != padding_id
    positions: _Rows = np.cumsum(real, dtype=np.int64) * real + padding_id
    return positions


def _bucket_bounds(lengths: _Rows, heads: int) -> Iterator[tuple[int, int]]:
    """Cut descending lengths into runs, trading padding against the number of runs."""
    first, wasted = 0, 0
    for index in range(len(lengths)):
        longest = _block_length(int(lengths[first]))
        wasted += longest**2 - int(lengths[index]) ** 2
        full = (index - first + 1) * heads * longest**2 > _MAX_BUCKET_SCORES
        if index > first and (wasted > _MAX_WASTED_SCORES or full or longest > MAX_BLOCK_LENGTH):
            yield first, index
            first, wasted = index, 0
    yield first, len(lengths)


def _gather_rows(rows: _Rows, heads: int) -> torch.Tensor:
    part = np.arange(3)[:, None, None, None]
    head = np.arange(heads)[None, None, :, None]
    gather = (rows[None, :, None, :] * 3 + part) * heads + head  # (3, texts, heads, length)
    return torch.from_numpy(gather.reshape(-1))


def _valid_column(valid: npt.NDArray[np.bool_], heads: int, dtype: torch.dtype) -> torch.Tensor:
    column = torch.from_numpy(np.repeat(valid, heads, axis=0)).to(dtype)
    return column.unsqueeze(-1)  # (texts * heads, length, 1)
