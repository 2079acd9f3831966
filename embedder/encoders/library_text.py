"""Text by a library's own forward: right-padded batches of similar lengths, for every architecture."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from embedder.encoders.base import Tokens
from embedder.encoders.batching import length_order, pad_right, padded_chunks
from embedder.encoders.pooling import PoolingMode, pool_packed
from embedder.encoders.towers import Precision, TextModel

# A larger padded batch leaves a CPU's caches and runs slower (measured: 1,024 is 1.27 times batches of 32 texts).
_MAX_PADDED_TOKENS = {"cpu": 1024, "cuda": 65_536}


class TransformersText(nn.Module):
    """A transformers encoder, its pooling, and what stands behind it."""

    def __init__(self, transformer: nn.Module, pooling: PoolingMode, head: nn.Module) -> None:
        """Join the parts.

        Args:
            transformer: a transformers model that takes `input_ids` and `attention_mask`.
            pooling: how its hidden states become one vector.
            head: (n, width) to (n, dim); identity where the pooled state is the vector.
        """
        super().__init__()
        self.transformer = transformer
        self.pooling: PoolingMode = pooling
        self.head = head

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Map ids (n, t) int64 and mask (n, t) bool, padded on the right, to (n, dim)."""
        # Without padding there is nothing to mask, and attention takes its faster path.
        attention_mask = None if bool(mask.all()) else mask.long()
        hidden = self.transformer(input_ids=ids, attention_mask=attention_mask).last_hidden_state  # (n, t, width)
        pooled = pool_packed(hidden[mask], mask.sum(dim=1), self.pooling)
        vectors: torch.Tensor = self.head(pooled.to(hidden.dtype))
        return vectors


class LibraryText:
    """The text tower that runs the library's own forward."""

    def __init__(self, model: TextModel, device: torch.device, precision: Precision) -> None:
        """Copy the model to a device.

        Args:
            model: the loaded model; in float32 on the CPU it is used itself, not copied.
            device: where to run.
            precision: what to compute in.
        """
        moves = device.type != "cpu" or precision.dtype is not torch.float32
        self._module = copy.deepcopy(model.module).to(device, precision.dtype) if moves else model.module
        self._device = device
        self._crops = model.crops
        self._pad_id = model.tokenizer.pad_id
        self._max_tokens = model.tokenizer.max_tokens
        self.numerics = precision.name

    def embed(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        order = length_order(tokens)
        budget = _MAX_PADDED_TOKENS[self._device.type]
        # A model that reads its padding takes all texts at one length, so the order does not matter.
        rows = [self._forward([tokens[index] for index in chunk]) for chunk in padded_chunks(order, tokens, budget)]
        sorted_rows = torch.cat(rows)
        return torch.empty_like(sorted_rows).index_copy_(0, torch.tensor(order), sorted_rows)

    def close(self) -> None:
        """Do nothing: there is nothing to end."""

    def _forward(self, chunk: Sequence[Tokens]) -> torch.Tensor:
        width = len(chunk[0]) if self._crops else self._max_tokens
        ids, lengths = pad_right(chunk, self._pad_id, width)
        mask = torch.arange(width) < lengths[:, None]  # (n, width)
        with torch.inference_mode():
            vectors: torch.Tensor = self._module(ids.to(self._device), mask.to(self._device))
        return vectors.float().cpu()
