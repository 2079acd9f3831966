"""Text by a packed forward: no padding in any linear layer, chunks that stay in the caches, one thread for each."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import repeat

import torch
from torch.nn import functional

from embedder.encoders.base import Tokens
from embedder.encoders.batching import length_order, packed_chunks
from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.library_text import TransformersText
from embedder.encoders.packed_families import PackedStack, build_stack
from embedder.encoders.packed_script import compile_layers, fits
from embedder.encoders.pooling import pool_packed
from embedder.encoders.towers import DETERMINISTIC, Precision, TextModel

# A single text from here on is shared by all cores; a shorter one is faster on one (measured).
_SHARED_TOKENS = 256


class PackedText:
    """The text tower that runs packed tokens through a transformer's own weights."""

    def __init__(
        self,
        module: TransformersText,
        stack: PackedStack,
        device: torch.device,
        precision: Precision,
        *,
        deterministic: bool = False,
    ) -> None:
        """Join a stack with its model's pooling; `build_packed_text` makes the stack.

        Args:
            module: the loaded model, for its pooling and head.
            stack: the model's transformer, taken apart on the device.
            device: where to run.
            precision: what the stack computes in.
            deterministic: each text is a chunk of its own on one thread, so its bits hang on nothing but itself.
        """
        self._stack = stack
        self._layers = compile_layers(stack.blocks)
        self._pooling = module.pooling
        # A copy: the loaded model stays on the CPU, where the reference is computed.
        self._head = module.head if device.type == "cpu" else copy.deepcopy(module.head).to(device)
        self._dtype = precision.dtype
        self._runner = ChunkRunner(device)
        self._deterministic = deterministic
        self.numerics = f"{precision.name}-packed" + (DETERMINISTIC if deterministic else "")

    def embed(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        order = length_order(tokens)
        total = sum(map(len, tokens))
        budgets = repeat(1) if self._deterministic else self._runner.chunk_budgets(total)
        chunks = [[tokens[index] for index in chunk] for chunk in packed_chunks(order, tokens, budgets)]
        small = self._deterministic or total < _SHARED_TOKENS
        # On CUDA the host lays out the next chunk while the device computes this one: only the copy back waits for both.
        sorted_rows = torch.cat(self._runner.run(self._forward, chunks, small=small)).cpu()
        return torch.empty_like(sorted_rows).index_copy_(0, torch.tensor(order), sorted_rows)

    def close(self) -> None:
        """End the threads that run chunks."""
        self._runner.close()

    def _forward(self, chunk: Sequence[Tokens]) -> torch.Tensor:
        stack = self._stack
        with torch.inference_mode():
            layout = stack.attention.lay_out(chunk, stack.padding_id)
            x = functional.embedding(layout.ids, stack.words)  # (rows, width) float32
            if stack.places is not None:
                x += functional.embedding(layout.positions, stack.places)
            x = stack.embedding_norm(x).to(self._dtype)
            rotations = {} if stack.rotary is None else stack.rotary(layout.positions)
            if self._layers is not None and fits(layout):
                x = self._layers(x, layout)
            else:
                for block in stack.blocks:
                    x = block(x, layout, rotations)
            pooled = pool_packed(stack.final_norm(x)[: layout.tokens], layout.lengths, self._pooling)
            vectors: torch.Tensor = self._head(pooled)
        return vectors


def build_packed_text(
    model: TextModel, device: torch.device, precision: Precision, *, deterministic: bool = False
) -> PackedText | None:
    """Make a packed tower of a loaded model.

    Returns:
        None where the model's architecture has no packed forward on this device in this precision. On CUDA a chunk of one
        text leaves the device idle: there the padded forward is the deterministic one.
    """
    if not isinstance(model.module, TransformersText):
        return None
    if device.type == "cuda" and (deterministic or precision.dtype is torch.float32):
        return None
    with torch.inference_mode():
        stack = build_stack(model.module.transformer, torch.empty(0, device=device, dtype=precision.dtype))
    if stack is None:
        return None
    return PackedText(model.module, stack, device, precision, deterministic=deterministic)
