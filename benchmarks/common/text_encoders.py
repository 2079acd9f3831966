"""Text encoders in a process of their own: one contender each, asked in turns over its standard input and output.

Run as `python -m benchmarks.common.text_encoders NAME MODEL_FOLDER SCRATCH_FOLDER` by whichever Python has what the contender imports.
It reads requests and writes answers as JSON, one a line: {"texts": [...], "vectors": file or null} gives {"seconds": of the whole call,
"device_seconds": of the forward passes alone, where it can tell}, and leaves the vectors in the file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Encode = Callable[[Sequence[str]], tuple[Vectors, float | None]]
"""Texts to unit vectors (n, dim), and the seconds of the forward passes alone, where the contender can tell."""

_BUDGET_TOKENS = 1_024


def ours(folder: str) -> Encode:
    """The project's own encoder, as it chooses to run here."""
    encoder = _load_ours(folder)

    def encode(texts: Sequence[str]) -> tuple[Vectors, float]:
        tokens = encoder.prepare_texts(texts)
        start = time.perf_counter()
        vectors: Vectors = encoder.encode_texts(tokens)
        return vectors, time.perf_counter() - start

    return encode


def exact(folder: str) -> Encode:
    """Each text alone, in float32, by the transformers library: what every vector is compared with."""
    encoder = _load_ours(folder)
    return lambda texts: (encoder.encode_texts_exact(encoder.prepare_texts(texts)), None)


def matmul(folder: str) -> Encode:
    """The floor: nothing but bf16 matrix products of the model's shapes, as many as its linear layers need for the texts' tokens.

    Each thread multiplies rows of its own, 1,024 at a time, as ours does.
    """
    import torch
    from tokenizers import Tokenizer

    config = json.loads((Path(folder) / "config.json").read_text())
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    tokenizer = _unpadded(Tokenizer.from_file(f"{folder}/tokenizer.json"))
    shapes = [(width, 3 * width), (width, width), (width, inner), (inner, width)] * layers
    weights = [torch.randn(outputs, inputs).bfloat16().t() for inputs, outputs in shapes]
    rows = {inputs: torch.randn(_BUDGET_TOKENS, inputs).bfloat16() for inputs in (width, inner)}

    def multiply(_: int) -> None:
        with torch.inference_mode():
            for weight in weights:
                torch.mm(rows[weight.shape[0]], weight)

    threads = torch.get_num_threads()
    pool = _one_thread_each(threads)

    def encode(texts: Sequence[str]) -> tuple[Vectors, float]:
        tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts)))
        # As many for each thread: one that stood idle at the end would make the floor look slower than it is.
        blocks = threads * max(1, round(tokens / (threads * _BUDGET_TOKENS)))
        start = time.perf_counter()
        list(pool.map(multiply, range(blocks)))
        # As if the blocks had held as many rows as there are tokens.
        return np.empty((0, 0), np.float32), (time.perf_counter() - start) * tokens / (blocks * _BUDGET_TOKENS)

    return encode


def sentence_transformers(folder: str, batch_size: int = 32, bf16: bool = False) -> Encode:
    """The library that most people use, at a batch size (its own default is 32)."""
    import torch
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    if bf16:
        model.bfloat16()

    def encode(texts: Sequence[str]) -> tuple[Vectors, None]:
        encoded: torch.Tensor = model.encode(list(texts), batch_size=batch_size, convert_to_tensor=True)
        return encoded.float().numpy(), None

    return encode


def transformers(folder: str) -> Encode:
    """The transformers library as its pages show it: batches of 32 in order of arrival, padded."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def encode(texts: Sequence[str]) -> tuple[Vectors, None]:
        rows = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                list(texts[start : start + 32]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = model(**batch).last_hidden_state.numpy()
            rows.append(_mean_pool(hidden, batch["attention_mask"].numpy()))
        return np.concatenate(rows), None

    return encode


def openvino(folder: str) -> Encode:
    """OpenVINO in bf16, sorted by length, batches of 1,024 tokens: the fastest peer of this model that was found."""
    import openvino as ov

    compiled = ov.compile_model(_openvino_model(folder), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    return _sorted_batches(
        folder, lambda ids, mask: np.asarray(compiled([ids, mask, np.zeros_like(ids)])[0], np.float32)
    )


def onnxruntime(folder: str) -> Encode:
    """ONNX Runtime in float32 with its fused attention, sorted by length, batches of 1,024 tokens."""
    import onnxruntime as ort
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="eager", add_pooling_layer=False).eval()

    class Hidden(torch.nn.Module):
        """The model by its arguments' names, which tracing would not keep."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
            hidden: torch.Tensor = model(input_ids=ids, attention_mask=mask, token_type_ids=types).last_hidden_state
            return hidden

    file = Path(sys.argv[3]) / "model.onnx"
    ids = torch.ones(2, 8, dtype=torch.int64)
    sizes = {0: "batch", 1: "length"}
    # The exporter by torch.export makes a graph of this model that gives other vectors (torch 2.14.1).
    torch.onnx.export(
        Hidden().eval(),
        (ids, ids, ids),
        file,
        input_names=["input_ids", "attention_mask", "token_type_ids"],
        output_names=["hidden"],
        dynamic_axes={"input_ids": sizes, "attention_mask": sizes, "token_type_ids": sizes},
        opset_version=17,
        dynamo=False,
    )
    heads, width = model.config.num_attention_heads, model.config.hidden_size
    fused = optimizer.optimize_model(str(file), "bert", num_heads=heads, hidden_size=width, opt_level=1)
    fused.save_model_to_file(str(file))
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def forward(ids: npt.NDArray[np.int64], mask: npt.NDArray[np.int64]) -> Vectors:
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        return np.asarray(session.run(None, {name: given[name] for name in names})[0], np.float32)

    return _sorted_batches(folder, forward)


CONTENDERS: dict[str, Callable[[str], Encode]] = {
    "ours": ours,
    "exact": exact,
    "matmul": matmul,
    "sentence-transformers, batch 16": lambda folder: sentence_transformers(folder, 16),
    "sentence-transformers, batch 32": sentence_transformers,
    "sentence-transformers, batch 64": lambda folder: sentence_transformers(folder, 64),
    "sentence-transformers, bf16": lambda folder: sentence_transformers(folder, 16, bf16=True),
    "transformers, batch 32": transformers,
    "OpenVINO bf16": openvino,
    "ONNX Runtime fp32": onnxruntime,
}


def _load_ours(folder: str) -> Any:
    from embedder.encoders.load import load_encoder
    from embedder.media.limits import MediaLimits

    return load_encoder(folder, device="cpu", limits=MediaLimits())


def _openvino_model(folder: str) -> Any:
    import openvino as ov
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder, attn_implementation="sdpa").eval()
    model.config.return_dict = False
    ids = torch.ones(2, 8, dtype=torch.int64)
    example = {"input_ids": ids, "attention_mask": ids, "token_type_ids": ids}
    with torch.inference_mode():
        return ov.convert_model(model, example_input=example)


def _sorted_batches(folder: str, forward: Callable[..., Vectors]) -> Encode:
    """Encode in order of length, in padded batches of at most 1,024 tokens."""
    from tokenizers import Tokenizer

    tokenizer = _unpadded(Tokenizer.from_file(f"{folder}/tokenizer.json"))

    def encode(texts: Sequence[str]) -> tuple[Vectors, None]:
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(ids)), key=lambda index: len(ids[index]))
        vectors: dict[int, Vectors] = {}
        while order:
            longest = len(ids[order[-1]])
            batch, order = order[-max(1, _BUDGET_TOKENS // longest) :], order[: -max(1, _BUDGET_TOKENS // longest)]
            padded = np.zeros((len(batch), longest), np.int64)
            for row, index in zip(padded, batch, strict=True):
                row[: len(ids[index])] = ids[index]
            mask = (np.arange(longest) < np.array([[len(ids[index])] for index in batch])).astype(np.int64)
            vectors |= zip(batch, _mean_pool(forward(padded, mask), mask), strict=True)
        return np.stack([vectors[index] for index in range(len(ids))]), None

    return encode


def _mean_pool(hidden: Vectors, mask: npt.NDArray[np.int64]) -> Vectors:
    pooled = np.einsum("nth,nt->nh", hidden, mask.astype(np.float32)) / mask.sum(axis=1, keepdims=True)
    unit: Vectors = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
    return unit


def _unpadded(tokenizer: Any) -> Any:
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


def _one_thread_each(threads: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    import torch

    return ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))


def serve(name: str, folder: str) -> None:
    """Answer requests until the standard input ends."""
    encode = CONTENDERS[name](folder)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not look like an answer
    for line in sys.stdin:
        request = json.loads(line)
        start = time.perf_counter()
        vectors, device_seconds = encode(request["texts"])
        seconds = time.perf_counter() - start
        if request["vectors"]:
            np.save(request["vectors"], vectors)
        answers.write(json.dumps({"seconds": seconds, "device_seconds": device_seconds}) + "\n")
        answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2])
