"""A hundred injected faults: every call is answered once, its neighbours are right, and the engine goes on."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import numpy as np
import pytest

from embedder.encoders.base import Tokens
from embedder.engine.contents import Source
from embedder.errors import EncoderError, NonFiniteVector, OutOfDeviceMemory
from embedder_client.content_hash import hash_text

from .conftest import DIM, Bench, options, text_items, vector_of, wait_until

_FAULTS = 100
_CALLERS = 8


class FaultyEncoder:
    """Fails as its texts say: `raises ...` always, `nan ...` always, `overflow ...` in 16 bits only; too large batches do not fit."""

    def __init__(self, bench: Bench, choice: random.Random) -> None:
        self._exact = bench.encoder.encode_texts
        self._choice = choice
        self.faults = 0
        bench.encoder.encode_texts = self.encode  # type: ignore[method-assign]
        bench.encoder.encode_texts_exact = self.encode_exactly  # type: ignore[method-assign]

    def encode(self, tokens: Sequence[Tokens]) -> np.ndarray:
        texts = [_text(row) for row in tokens]
        if len(tokens) > 4 and self._choice.random() < 0.2:
            self.faults += 1
            raise OutOfDeviceMemory(f"{len(tokens)} do not fit")
        if any(text.startswith("raises") for text in texts):
            self.faults += 1
            raise RuntimeError("the forward pass fails")
        vectors = self._exact(tokens)
        self._spoil(vectors, texts, ("nan", "overflow"))
        return vectors

    def encode_exactly(self, tokens: Sequence[Tokens]) -> np.ndarray:
        vectors = self._exact(tokens)
        self._spoil(vectors, [_text(row) for row in tokens], ("nan",))
        return vectors

    def _spoil(self, vectors: np.ndarray, texts: Sequence[str], kinds: tuple[str, ...]) -> None:
        for row, text in enumerate(texts):
            if text.startswith(kinds):
                self.faults += 1
                vectors[row, self._choice.randrange(DIM)] = self._choice.choice([np.nan, np.inf])


def _text(row: Tokens) -> str:
    return row.astype(np.uint8).tobytes().decode()


@pytest.mark.parametrize("seed", [1, 2])
def test_a_hundred_faults_cost_only_what_they_hit(bench: Bench, seed: int) -> None:
    encoder = FaultyEncoder(bench, random.Random(seed))
    wrong: list[str] = []
    answered: list[int] = []

    def call(caller: int) -> None:
        choice = random.Random(seed * 1_000 + caller)
        number = 0
        while encoder.faults < _FAULTS:
            number += 1
            kinds = choice.choices(["good", "raises", "nan", "overflow"], [8, 1, 1, 1], k=choice.randint(1, 9))
            texts = [f"{kind} {caller} {number} {row}" for row, kind in enumerate(kinds)]
            outcome = bench.engine.embed(text_items(*texts), options())
            answered.append(len(texts))
            for row, (kind, text) in enumerate(zip(kinds, texts, strict=True)):
                expected = {"raises": EncoderError, "nan": NonFiniteVector}.get(kind)
                if expected is not None:
                    is_right = type(outcome.failures.get(row)) is expected and outcome.sources[row] == Source.FAILED
                else:
                    vector = vector_of(text.encode()).astype(np.float16)
                    is_right = row not in outcome.failures and np.array_equal(outcome.vectors[row], vector)
                if not is_right:
                    wrong.append(text)

    threads = [threading.Thread(target=call, args=(caller,)) for caller in range(_CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a call was never answered"
    assert encoder.faults >= _FAULTS
    assert not wrong
    assert sum(answered) > _FAULTS
    bench.cache.flush()
    wait_until(lambda: bench.engine.in_flight == 0)
    outcome = bench.engine.embed(text_items("healthy again"), options())
    assert outcome.sources.tolist() == [Source.COMPUTED]
    assert not bench.cache.get_many(bench.engine.space, hash_text("nan 0 1 0")).found.any()
