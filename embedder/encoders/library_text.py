"""Text by a library's own forward: right-padded batches of similar lengths, for every architecture."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import nn

from embedder.encoders.base import Tokens
from embedder.encoders.batching import length_order, pad_right, padded_chunks
from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.host_copies import to_device
from embedder.encoders.pooling import PoolingMode, pool_packed
from embedder.encoders.towers import DETERMINISTIC, Precision, TextModel

# A single text from here on is shared by all cores; a shorter one is faster on one (measured).
_SHARED_TOKENS = 256
# Deterministic batches on an accelerator: always so many rows, and a power of two columns from the narrowest on.
_FIXED_ROWS = 16
_NARROWEST = 16


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

    def __init__(
        self,
        model: TextModel,
        device: torch.device,
        precision: Precision,
        *,
        deterministic: bool = False,
        module: nn.Module | None = None,
    ) -> None:
        """Copy the model to a device.

        Args:
            model: the loaded model; in float32 on the CPU it is used itself, not copied.
            device: where to run.
            precision: what to compute in.
            deterministic: every shape hangs on a text's own length alone, so its bits do not change with its neighbours.
            module: what runs in the place of the model's own, prepared and on the device.
        """
        moves = device.type != "cpu" or precision.dtype is not torch.float32
        self._module = module or (copy.deepcopy(model.module).to(device, precision.dtype) if moves else model.module)
        self._device = device
        self._crops = model.crops
        self._pad_id = model.tokenizer.pad_id
        self._max_tokens = model.tokenizer.max_tokens
        self._runner = ChunkRunner(device)
        self._deterministic = deterministic
        self.numerics = precision.name + (DETERMINISTIC if deterministic else "")

    def embed(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        order = length_order(tokens)
        widths = [self._width(ids) for ids in tokens]
        total = sum(widths)
        chunks = [[tokens[index] for index in chunk] for chunk in self._chunks(order, widths)]
        small = self._deterministic or total < _SHARED_TOKENS
        sorted_rows = torch.cat(self._runner.run(self._forward, chunks, small=small)).cpu()
        return torch.empty_like(sorted_rows).index_copy_(0, torch.tensor(order), sorted_rows)

    def close(self) -> None:
        """End the threads that run chunks."""
        self._runner.close()

    def _width(self, ids: Tokens) -> int:
        """Return how many columns a text takes, if it is the longest of its batch."""
        if not self._crops:
            return self._max_tokens
        if not self._fixes_shapes:
            return len(ids)
        return min(self._max_tokens, max(_NARROWEST, 1 << (len(ids) - 1).bit_length()))

    @property
    def _fixes_shapes(self) -> bool:
        return self._deterministic and self._device.type != "cpu"

    def _chunks(self, order: Sequence[int], widths: Sequence[int]) -> list[list[int]]:
        if not self._deterministic:
            return list(padded_chunks(order, widths, self._runner.chunk_tokens(sum(widths))))
        if self._device.type == "cpu":
            return [[index] for index in order]
        chunks = []
        for _, group in groupby(order, key=lambda index: widths[index]):
            same = list(group)
            chunks += [same[start : start + _FIXED_ROWS - 1] for start in range(0, len(same), _FIXED_ROWS - 1)]
        return chunks

    def _forward(self, chunk: Sequence[Tokens]) -> torch.Tensor:
        width = self._width(chunk[0])
        rows = list(chunk)
        if self._fixes_shapes:
            # One row of a single token at least: without padding the library would take another path.
            rows += [chunk[0][:1]] * (_FIXED_ROWS - len(chunk))
        ids, lengths = pad_right(rows, self._pad_id, width)
        mask = torch.arange(width) < lengths[:, None]  # (n, width)
        with torch.inference_mode():
            vectors: torch.Tensor = self._module(to_device(ids, self._device), to_device(mask, self._device))
        return vectors[: len(chunk)].float()
