"""Generated answers: our decode loop beside transformers' generate, and with --full how often answers and citations are right.

The questions stand in tests/heads/answers.json, the documents are 106 Wikipedia pages (and 100 that only lead to another) of gensim's
test data; `make install` brings both packages.
"""

from __future__ import annotations

import json
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import track

from benchmarks.common.run import Result, main
from benchmarks.common.wikipedia import Passage as WikipediaPassage
from benchmarks.common.wikipedia import read_passages
from embedder.config import ServeSettings
from embedder.encoders.base import Encoder
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits
from embedder_heads.generation.answering import Ending, answer, near_enough
from embedder_heads.generation.decoding import End, Limits, decode
from embedder_heads.generation.prompt import Passage, build_prompt
from embedder_heads.generation.transformers_model import TransformersModel, load_model
from embedder_heads.index.building import build_index
from embedder_heads.index.hybrid import Query, SearchMode, SearchOptions, search
from embedder_heads.index.vector_index import VectorIndex

_QUESTIONS = Path(__file__).resolve().parents[1] / "tests/heads/answers.json"
_PASSAGES = 4
_MAX_TOKENS = 48
_TIMED_TOKENS = 32
_ROUNDS = 3
_MIN_COSINE = ServeSettings.model_fields["answer_min_cosine"].default

Floats = npt.NDArray[np.float32]


def measure(full: bool, console: Console) -> Result:
    console.print("the answer model")
    model = load_model("default")
    rows, keys, agreement = _speed(model)
    notes = [
        f"Speed: greedy, {_TIMED_TOKENS} tokens after a prompt of four passages, reading the prompt included; medians of {_ROUNDS} "
        f"rounds in each of which both run once, on one loaded model ({model.info.parameters / 1e6:.0f} M parameters, "
        f"{model.info.numerics}). {agreement}",
    ]
    if full:
        found_rows, found_keys, note = _quality(model, console)
        rows += found_rows
        keys |= found_keys
        notes.append(note)
    return Result(columns=("contender", "what", "figure"), rows=rows, keys=keys, notes=notes)


def _speed(model: TransformersModel) -> tuple[list[tuple[str, str, str]], dict[str, float | None], str]:
    """Time both loops on one prompt; returns rows, keys, and how far the two agree, in words."""
    passages = [
        Passage(wanted.id, wanted.text, 1.0)
        for wanted in [p for p in read_passages() if p.page == "Apollo 11"][:_PASSAGES]
    ]
    prompt, _ = build_prompt(model, "Tell the story of Apollo 11.", passages, max_tokens=_TIMED_TOKENS)

    def ours() -> list[int]:
        return list(decode(model, prompt, Limits(_TIMED_TOKENS, time.monotonic() + 600)))

    def theirs() -> list[int]:
        rows = torch.tensor([prompt])
        limits = {
            "do_sample": False,
            "max_new_tokens": _TIMED_TOKENS,
            "eos_token_id": list(model.end_tokens),
            "pad_token_id": 0,
        }
        with torch.inference_mode():
            made = model.model.generate(rows, attention_mask=torch.ones_like(rows), **limits)
        return [token for token in made[0, len(prompt) :].tolist() if token not in model.end_tokens]

    contenders = {"ours": ours, "transformers generate": theirs}
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    made = {name: run() for name, run in contenders.items()}
    if short := [name for name, tokens in made.items() if len(tokens) < _TIMED_TOKENS]:
        raise RuntimeError(f"{short[0]} ended before {_TIMED_TOKENS} tokens, so the times can't be compared")
    for _ in range(_ROUNDS):
        for name, run in contenders.items():
            started = time.perf_counter()
            run()
            taken[name].append(time.perf_counter() - started)
    seconds = {name: statistics.median(times) for name, times in taken.items()}
    rows = [
        (name, f"{_TIMED_TOKENS} tokens after {len(prompt)}", f"{_TIMED_TOKENS / value:,.1f} tokens/s")
        for name, value in seconds.items()
    ]
    pairs = zip(made["ours"], made["transformers generate"], strict=True)
    same = next((number for number, (one, other) in enumerate(pairs) if one != other), _TIMED_TOKENS)
    # We read the prompt in pieces, generate at once: in bf16 that rounds otherwise, and near ties may fall differently.
    agreement = (
        "Both gave the same tokens." if same == _TIMED_TOKENS else f"The first {same} tokens are the same (rounding)."
    )
    keys: dict[str, float | None] = {
        "answer_vs_generate": seconds["transformers generate"] / seconds["ours"],
        "answer_tokens_per_s": _TIMED_TOKENS / seconds["ours"],
    }
    return rows, keys, agreement


@dataclass(frozen=True)
class _Judged:
    """One question's answers: with passages and without."""

    with_passages: bool
    without: bool
    refused: bool
    page_found: bool
    cited_page: bool
    cited_answer: bool


def _quality(model: TransformersModel, console: Console) -> tuple[list[tuple[str, str, str]], dict[str, float], str]:
    asked = json.loads(_QUESTIONS.read_text(encoding="utf-8"))
    pages = read_passages()
    encoder = load_encoder("default", device="auto", limits=MediaLimits())
    with tempfile.TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        try:
            index = _index(encoder, pages, Path(folder), console)
            texts = [entry["question"] for entry in asked["answerable"]]
            vectors = _embed(encoder, [*texts, *asked["unanswerable"]])
        finally:
            encoder.close()
        judged = [
            _judge(model, index, entry, vector)
            for entry, vector in track(list(zip(asked["answerable"], vectors, strict=False)), "answer", console=console)
        ]
        others = zip(asked["unanswerable"], vectors[len(texts) :], strict=True)
        refused = sum(
            not near_enough(_passages(index, question, vector), min_cosine=_MIN_COSINE) for question, vector in others
        )
    total, others_total = len(judged), len(asked["unanswerable"])
    counts = {
        "answer_right_with_retrieval": sum(entry.with_passages for entry in judged) / total,
        "answer_right_without_retrieval": sum(entry.without for entry in judged) / total,
        "answer_retrieved": sum(entry.page_found for entry in judged) / total,
        "citation_of_right_page": sum(entry.cited_page for entry in judged) / total,
        "citation_holds_answer": sum(entry.cited_answer for entry in judged) / total,
        "answerable_refused": sum(entry.refused for entry in judged) / total,
        "unanswerable_refused": refused / others_total,
    }
    rows = [("ours", name.replace("_", " "), f"{share:.3f}") for name, share in counts.items()]
    note = (
        f"Quality: {total} questions with known answers and {others_total} that the pages do not answer; {len(pages):,} passages, best "
        f"{_PASSAGES} read, refused below cosine {_MIN_COSINE}. Right: a known answer stands word for word in what was generated. A "
        "citation counts when it is the first, and a refused question cites nothing."
    )
    return rows, counts, note


def _judge(model: TransformersModel, index: VectorIndex, entry: dict[str, Any], vector: Floats) -> _Judged:
    question, page, known = entry["question"], entry["page"], entry["answers"]
    passages = _passages(index, question, vector)
    refused = not near_enough(passages, min_cosine=_MIN_COSINE)
    text, ending = ("", Ending(End.NOT_IN_DOCUMENTS, 0, ())) if refused else _answered(model, question, passages)
    remembered, _ = _answered(model, question, [])
    first = ending.citations[0] if ending.citations else None
    from_page = first is not None and first.id.startswith(f"{page}#")
    return _Judged(
        with_passages=_holds(text, known),
        without=_holds(remembered, known),
        refused=refused,
        page_found=any(passage.id.startswith(f"{page}#") and _holds(passage.text, known) for passage in passages),
        cited_page=from_page,
        cited_answer=from_page and first is not None and _holds(first.text, known),
    )


def _answered(model: TransformersModel, question: str, passages: Sequence[Passage]) -> tuple[str, Ending]:
    said = ""
    words = answer(model, question, passages, Limits(_MAX_TOKENS, time.monotonic() + 600))
    while True:
        try:
            said += next(words)
        except StopIteration as finished:
            return said, finished.value


def _passages(index: VectorIndex, question: str, vector: Floats) -> list[Passage]:
    [hits] = search(index, [Query(vector, question)], SearchOptions(_PASSAGES, SearchMode.HYBRID))
    cosines = index.vectors_of([hit.id for hit in hits]) @ vector
    return [Passage(hit.id, index.text_of(hit.id), float(cosine)) for hit, cosine in zip(hits, cosines, strict=True)]


def _index(encoder: Encoder, pages: Sequence[WikipediaPassage], folder: Path, console: Console) -> VectorIndex:
    console.print(f"embed {len(pages):,} passages")
    texts = [passage.text for passage in pages]
    ids = [passage.id for passage in pages]
    build_index(
        folder,
        _embed(encoder, texts),
        ids,
        [{}] * len(ids),
        space_digest=bytes(32),
        name="wikipedia",
        version=1,
        texts=texts,
    )
    return VectorIndex(folder)


def _embed(encoder: Encoder, texts: Sequence[str]) -> Floats:
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    vectors = np.empty((len(texts), encoder.info.dim), np.float32)
    for start in range(0, len(order), 64):
        rows = order[start : start + 64]
        vectors[rows] = encoder.encode_texts(encoder.prepare_texts([texts[row] for row in rows]))
    return vectors


def _holds(text: str, known: Sequence[str]) -> bool:
    return any(f" {_plain(answer_)} " in f" {_plain(text)} " for answer_ in known)


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


if __name__ == "__main__":
    main("answer", __doc__ or "", measure)
