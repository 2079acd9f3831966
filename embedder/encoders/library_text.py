"""Text by a library's own forward: right-padded batches of similar lengths, for every architecture."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import nn

from embedder.encoders.base import Tokens
from embedder.encoders.batching import length_order, pad_right, padded_chunks
from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.pooling import PoolingMode, pool_packed
from embedder.encoders.towers import Precision, TextModel

# A single text from here on is shared by all cores; a shorter one is faster on one (measured).
_SHARED_TOKENS = 256


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


def embed_texts_exactly(model: TextModel, tokens: Sequence[Tokens]) -> torch.Tensor:
    """Embed each text alone by the library's own forward, in float32 on the CPU: the reference; returns (n, dim)."""
    rows = []
    with torch.inference_mode():
        for ids in tokens:
            width = len(ids) if model.crops else model.tokenizer.max_tokens
            padded, lengths = pad_right([ids], model.tokenizer.pad_id, width)
            rows.append(model.module(padded, torch.arange(width) < lengths[:, None]))
    return torch.cat(rows)


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
        self._runner = ChunkRunner(device)
        self.numerics = precision.name

    def embed(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        order = length_order(tokens)
        widths = [len(ids) if self._crops else self._max_tokens for ids in tokens]
        total = sum(widths)
        chunks = [
            [tokens[index] for index in chunk]
            for chunk in padded_chunks(order, widths, self._runner.chunk_tokens(total))
        ]
        sorted_rows = torch.cat(self._runner.run(self._forward, chunks, small=total < _SHARED_TOKENS))
        return torch.empty_like(sorted_rows).index_copy_(0, torch.tensor(order), sorted_rows)

    def close(self) -> None:
        """End the threads that run chunks."""
        self._runner.close()

    def _forward(self, chunk: Sequence[Tokens]) -> torch.Tensor:
        width = len(chunk[0]) if self._crops else self._max_tokens
        ids, lengths = pad_right(chunk, self._pad_id, width)
        mask = torch.arange(width) < lengths[:, None]  # (n, width)
        with torch.inference_mode():
            vectors: torch.Tensor = self._module(ids.to(self._device), mask.to(self._device))
        return vectors.float().cpu()
