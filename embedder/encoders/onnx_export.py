"""Exports a loaded text encoder to ONNX with 8-bit weights, once for each set of weights."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from embedder.encoders.library_text import TransformersText
from embedder.encoders.towers import TextModel
from embedder.errors import EncoderLoadError

# Raised when the export itself changes, so that older files are not taken for it.
_EXPORT_VERSION = 1
_OPSET = 17
# How far the exported float32 graph may be from the library's own forward.
_LEAST_COSINE = 0.9999


class _HiddenStates(nn.Module):
    """A transformers encoder without pooling, which stays in torch."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.transformer(input_ids=ids, attention_mask=mask.long()).last_hidden_state
        return hidden


def int8_file(model: TextModel, folder: Path) -> Path:
    """Return the ONNX file of a model with dynamic 8-bit quantization, made now unless the folder holds it.

    The graph maps ids (n, t) int64 and mask (n, t) bool, padded on the right, to hidden states (n, t, width) where the
    model is a `TransformersText`, else to vectors (n, dim).

    Args:
        model: the loaded model.
        folder: where such files are kept, by a digest of the weights and of the libraries that make them.
    Raises:
        EncoderLoadError: ONNX or ONNX Runtime is not installed, or the architecture can't be exported.
    """
    try:
        import onnx  # noqa: F401 - wanted by the exporter
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        raise EncoderLoadError(
            f"precision=int8 on a CPU needs ONNX Runtime ({error}): pip install 'embedder[int8]', or choose bf16 or fp32"
        ) from error
    file = folder / f"{_digest(model)}.int8.onnx"
    if file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(f".{os.getpid()}")
    with TemporaryDirectory(dir=folder) as scratch:
        whole = Path(scratch, "fp32.onnx")
        _export(model, whole)
        _check(model, whole)
        # It advises, at the level of warnings, what was done already.
        logging.disable(logging.WARNING)
        try:
            quantize_dynamic(whole, unfinished, weight_type=QuantType.QInt8, per_channel=True)
        finally:
            logging.disable(logging.NOTSET)
    unfinished.replace(file)
    return file


def exported_module(model: TextModel) -> nn.Module:
    """Return what the graph computes, as a module of ids and mask."""
    module = model.module
    return _HiddenStates(module.transformer) if isinstance(module, TransformersText) else module


def run_graph(session: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return what a session of `int8_file`'s graph makes of a batch; see there for the shapes.

    Raises:
        RuntimeError: the graph does not run; ONNX Runtime's own errors are of no common type.
    """
    given = {"ids": ids.numpy(), "mask": mask.numpy()}
    # A causal tower does not read its mask, and the exporter leaves such an input out.
    try:
        rows = session.run(None, {wanted.name: given[wanted.name] for wanted in session.get_inputs()})[0]
    except Exception as error:
        raise RuntimeError(f"ONNX Runtime: {error}") from error
    return torch.from_numpy(rows)


def _digest(model: TextModel) -> str:
    made_by = {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
    named = json.dumps([_EXPORT_VERSION, _OPSET, model.identity, made_by], sort_keys=True)
    return hashlib.sha256(named.encode()).hexdigest()[:32]


def _export(model: TextModel, file: Path) -> None:
    axes = {0: "batch", 1: "length"}
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")
            # The exporter by torch.export made a graph of BERT whose hidden states had cosine 0.09 to the model's own (torch 2.14.1).
            torch.onnx.export(
                exported_module(model).eval(),
                _probe(model, rows=2, width=9),
                file,
                input_names=["ids", "mask"],
                output_names=["rows"],
                dynamic_axes={"ids": axes, "mask": axes},
                opset_version=_OPSET,
                dynamo=False,
            )
    except Exception as error:  # the exporter raises whatever the traced model does
        raise EncoderLoadError(
            f"this model can't be exported to ONNX ({type(error).__name__}: {error}); choose bf16 or fp32"
        ) from error


def _check(model: TextModel, file: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    ids, mask = _probe(model, rows=3, width=14)
    with torch.inference_mode():
        expected = exported_module(model)(ids, mask)
    try:
        given = run_graph(session, ids, mask)
    except RuntimeError as error:
        raise EncoderLoadError(
            "this model's ONNX export runs at one batch shape only, as that of open_clip's own text towers does; "
            f"choose bf16 or fp32 ({error})"
        ) from error
    if expected.dim() == 3:
        expected, given = expected[mask], given[mask]
    least = float(functional.cosine_similarity(expected, given, dim=-1).min())
    if not least >= _LEAST_COSINE:
        raise EncoderLoadError(
            f"this model's ONNX export has cosine {least:.6f} to the model itself; {_LEAST_COSINE} is wanted: choose bf16 or fp32"
        )


def _probe(model: TextModel, *, rows: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids and mask of a batch of which all rows but the first are padded."""
    if not model.crops:
        width = model.tokenizer.max_tokens
    (text,) = model.tokenizer.tokenize(["a few words that every vocabulary can spell, one way or the other " * 8])
    text = np.resize(text, width)
    ids = torch.from_numpy(np.stack([text] * rows).astype(np.int64))
    lengths = torch.tensor([width - 2 * row for row in range(rows)])
    mask = torch.arange(width) < lengths[:, None]
    return torch.where(mask, ids, model.tokenizer.pad_id), mask
