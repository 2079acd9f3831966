"""Pooling: the hidden states of many texts, laid end to end, to one vector each."""

from __future__ import annotations

from typing import Literal, get_args

import torch

PoolingMode = Literal["mean", "cls", "last", "max"]
POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)


def pool_packed(hidden: torch.Tensor, lengths: torch.Tensor, mode: PoolingMode) -> torch.Tensor:
    """Pool packed hidden states in float32.

    Args:
        hidden: (total_tokens, width), one text after the other, without padding.
        lengths: (n,) int64 on the same device, each at least 1; their sum is total_tokens.
        mode: mean of all tokens, the first (`cls`) or the last token, or the maximum in each place.
    Returns:
        (n, width) float32.
    Source: Reimers & Gurevych 2019, section 3.
    """
    if mode == "cls":
        return hidden[lengths.cumsum(0) - lengths].float()
    if mode == "last":
        return hidden[lengths.cumsum(0) - 1].float()
    return torch.segment_reduce(hidden.float(), mode, lengths=lengths, axis=0, unsafe=True)
