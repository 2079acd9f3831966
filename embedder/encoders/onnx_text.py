"""Text in 8 bits by ONNX Runtime, for CPUs: faster than float32, and far less exact than bf16."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from embedder.encoders.base import Tokens
from embedder.encoders.batching import length_order, pad_right, padded_chunks
from embedder.encoders.chunk_runner import ChunkRunner
from embedder.encoders.library_text import TransformersText
from embedder.encoders.onnx_export import int8_file, run_graph
from embedder.encoders.pooling import pool_packed
from embedder.encoders.towers import TextModel

# Padded batches of more tokens leave the caches (measured: 1,024 is the fastest of its neighbours).
_MAX_TOKENS = 1_024


class OnnxInt8Text:
    """The text tower that runs a dynamically quantized ONNX graph.

    Activations are quantized by a whole batch's range, so a vector moves a little with its neighbours.
    """

    def __init__(self, model: TextModel, folder: Path | None) -> None:
        """Load the graph, exported now unless the folder holds it; None keeps nothing.

        Raises:
            EncoderLoadError: see `embedder.encoders.onnx_export.int8_file`.
        """
        with TemporaryDirectory() as scratch:
            self._session = _open_session(int8_file(model, folder or Path(scratch)))
        self._module = model.module
        self._pad_id = model.tokenizer.pad_id
        self._fixed_width = None if model.crops else model.tokenizer.max_tokens
        self._runner = ChunkRunner(torch.device("cpu"))
        self.numerics = "int8-onnx"

    def embed(self, tokens: Sequence[Tokens]) -> torch.Tensor:
        """Return (n, dim) float32 on the CPU, in input order; n is at least 1."""
        order = length_order(tokens)
        widths = [self._fixed_width or len(ids) for ids in tokens]
        budget = min(_MAX_TOKENS, self._runner.chunk_tokens(sum(widths)))
        chunks = [[tokens[index] for index in chunk] for chunk in padded_chunks(order, widths, budget)]
        sorted_rows = torch.cat(self._runner.run(self._forward, chunks, small=True))
        return torch.empty_like(sorted_rows).index_copy_(0, torch.tensor(order), sorted_rows)

    def close(self) -> None:
        """End the threads that run chunks."""
        self._runner.close()

    def _forward(self, chunk: Sequence[Tokens]) -> torch.Tensor:
        width = self._fixed_width or len(chunk[0])
        ids, lengths = pad_right(chunk, self._pad_id, width)
        mask = torch.arange(width) < lengths[:, None]  # (n, width)
        rows = run_graph(self._session, ids, mask)
        if not isinstance(self._module, TransformersText):
            return rows
        with torch.inference_mode():
            vectors: torch.Tensor = self._module.head(pool_packed(rows[mask], lengths, self._module.pooling))
        return vectors


def _open_session(file: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Chunks run on our threads, one each: a second thread pool beside torch's halves the rate of both.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
