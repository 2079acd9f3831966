"""Encoding text in-process: ours beside sentence-transformers, transformers, OpenVINO and ONNX Runtime, over bare matrix products.

Each contender is a process of its own, gets the same texts as the others, and takes turns with them, so that whatever else the machine
does meets all alike. The floor is nothing but the model's own matrix products in bf16.
"""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from rich.console import Console
from tokenizers import Tokenizer

from benchmarks.common.peers import Answer, Ask, PeersMissing, prepare_peers, running_encoder
from benchmarks.common.run import Result, main
from benchmarks.common.texts import fresh_texts
from embedder.encoders.default_space.model import MAX_TOKENS, text_model_folder

_OURS, _FLOOR, _EXACT = "ours", "matmul", "exact"
_ST_32, _OPENVINO = "sentence-transformers, batch 32", "OpenVINO bf16"
_PEERS = (_ST_32, "sentence-transformers, batch 16", "transformers, batch 32", "ONNX Runtime fp32", _OPENVINO)
_MORE_PEERS = ("sentence-transformers, batch 64", "sentence-transformers, bf16")
_COLUMNS = ("encoder", "texts/s", "GFLOP/s", "x", "min cosine")

Answers = dict[str, list[Answer]]


@dataclass(frozen=True)
class _Work:
    """What a call asks for: texts, and the floating-point operations (in units of 10^9) that they need without padding."""

    texts: int
    linear_gflop: float
    attention_gflop: float

    @property
    def gflop(self) -> float:
        return self.linear_gflop + self.attention_gflop


def measure(full: bool, console: Console) -> Result:
    """Give every contender the same texts in turns; with `full` more texts, rounds and peers."""
    count, rounds = (800, 7) if full else (300, 3)
    model = text_model_folder()
    texts = list(islice(fresh_texts(), count))
    notes = [
        f"Medians of {rounds} rounds over the same {count} texts, tokenizing included. x: texts/s over those of {_ST_32}, the median "
        "of the rounds' own ratios. GFLOP/s: operations that the texts need without padding. Cosine: to each text alone in float32, "
        "by the transformers library.",
        "matmul: bf16 products of the model's linear layers alone, without attention, normalization, activation or tokenizing.",
        "Ours and matmul keep activations in large pages, as the daemon does for itself; peers run as they are installed.",
    ]
    with ExitStack() as stack:
        asks = {name: stack.enter_context(running_encoder(name, model)) for name in (_OURS, _FLOOR)}
        try:
            python = prepare_peers(console)
            for name in _PEERS + (_MORE_PEERS if full else ()):
                asks[name] = stack.enter_context(running_encoder(name, model, python))
        except PeersMissing as error:
            notes.append(f"No peer was run: {error}.")
        cosines = _warm_up(asks, texts, model, console, notes)
        answers: Answers = defaultdict(list)
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}")
            for name, ask in asks.items():
                answers[name].append(ask(texts, False))
    return _result(answers, cosines, _count_work(texts, model), notes)


def _warm_up(
    asks: dict[str, Ask], texts: Sequence[str], model: Path, console: Console, notes: list[str]
) -> dict[str, float]:
    """Let every contender encode the texts once and return its least cosine to the exact vectors; drops those that can't."""
    console.print("loading, and comparing vectors with float32")
    with running_encoder(_EXACT, model) as exact:
        expected = exact(texts, True).vectors
    assert expected is not None
    cosines: dict[str, float] = {}
    for name, ask in list(asks.items()):
        try:
            vectors = ask(texts, True).vectors
        except PeersMissing as error:
            del asks[name]
            notes.append(f"Not run: {error}.")
            continue
        if vectors is not None and len(vectors):
            cosines[name] = float(np.einsum("nd,nd->n", vectors, expected).min())
    return cosines


def _count_work(texts: Sequence[str], model: Path) -> _Work:
    config = json.loads((model / "config.json").read_text())
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    lengths = np.array([len(encoding.ids) for encoding in tokenizer.encode_batch_fast(list(texts))], dtype=np.float64)
    width, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    # A product of (a, b) with (b, c) takes 2abc operations; attention is two of (t, head) with (head, t) for each head.
    return _Work(
        texts=len(texts),
        linear_gflop=float(layers * 2 * (4 * width**2 + 2 * width * inner) * lengths.sum() / 1e9),
        attention_gflop=float(layers * 4 * width * (lengths**2).sum() / 1e9),
    )


def _result(answers: Answers, cosines: Mapping[str, float], work: _Work, notes: Sequence[str]) -> Result:
    seconds = {name: statistics.median(answer.seconds for answer in given) for name, given in answers.items()}
    # What the floor multiplies is counted without its tokenizing.
    seconds[_FLOOR] = statistics.median(_device(answer) for answer in answers[_FLOOR])
    rows = []
    for name in sorted(seconds, key=lambda name: seconds[name]):
        gflop = work.linear_gflop if name == _FLOOR else work.gflop
        rows.append(
            (
                name,
                f"{work.texts / seconds[name]:,.0f}",
                f"{gflop / seconds[name]:,.0f}",
                _figure(None if name == _FLOOR else _times(answers, _ST_32, name), 2),
                _figure(cosines.get(name), 5),
            )
        )
    share = statistics.median(
        (work.gflop / _device(ours)) / (work.linear_gflop / _device(floor))
        for ours, floor in zip(answers[_OURS], answers[_FLOOR], strict=True)
    )
    keys = {
        "vs_sentence_transformers": _times(answers, _ST_32, _OURS),
        "vs_openvino_bf16": _times(answers, _OPENVINO, _OURS),
        "share_of_matmul": share,
        "min_cosine": cosines[_OURS],
    }
    return Result(_COLUMNS, rows, keys, [*notes, f"Ours, tokens in hand, at {share:.0%} of the matmul rate."])


def _times(answers: Answers, slower: str, faster: str) -> float | None:
    """Return how many times as fast one contender is as another; None where either was not run."""
    if slower not in answers or faster not in answers:
        return None
    return statistics.median(
        one.seconds / other.seconds for one, other in zip(answers[slower], answers[faster], strict=True)
    )


def _device(answer: Answer) -> float:
    assert answer.device_seconds is not None
    return answer.device_seconds


def _figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    main("encode_text", __doc__ or "", measure)
