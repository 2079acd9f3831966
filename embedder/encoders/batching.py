"""Batching inside one call: which items go through the model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from embedder.encoders.base import Tokens


def length_order(tokens: Sequence[Tokens]) -> list[int]:
    """Return the items' indices, longest first; equal lengths keep their order."""
    return sorted(range(len(tokens)), key=lambda index: -len(tokens[index]))


def padded_chunks(order: Sequence[int], widths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Cut an order by descending length into chunks whose padded size stays within a budget.

    Args:
        order: indices of `widths`, longest first.
        widths: each item's length.
        max_tokens: a chunk's items times its longest length; a single longer item is a chunk of its own.
    """
    start = 0
    while start < len(order):
        count = max(1, max_tokens // widths[order[start]])
        yield list(order[start : start + count])
        start += count


def packed_chunks(order: Sequence[int], tokens: Sequence[Tokens], budgets: Iterator[int]) -> Iterator[list[int]]:
    """Cut an order into chunks of at most so many tokens in all; a single longer item is a chunk of its own.

    Args:
        order: indices of `tokens`.
        tokens: ids of each item.
        budgets: tokens of the first chunk, of the second, and so on without end.
    """
    chunk: list[int] = []
    filled, budget = 0, next(budgets)
    for index in order:
        if chunk and filled + len(tokens[index]) > budget:
            yield chunk
            chunk, filled, budget = [], 0, next(budgets)
        chunk.append(index)
        filled += len(tokens[index])
    if chunk:
        yield chunk


def pad_right(tokens: Sequence[Tokens], pad_id: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad token ids on the right.

    Returns:
        ids (n, width) int64 and lengths (n,) int64, on the CPU.
    """
    padded = np.full((len(tokens), width), pad_id, dtype=np.int64)
    for row, ids in zip(padded, tokens, strict=True):
        row[: len(ids)] = ids
    lengths = np.fromiter(map(len, tokens), dtype=np.int64, count=len(tokens))
    return torch.from_numpy(padded), torch.from_numpy(lengths)
