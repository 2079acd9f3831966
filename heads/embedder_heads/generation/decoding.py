"""The decode loop: reads a prompt in pieces, then picks one token after the other, within limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from embedder_heads.generation.model import LanguageModel

# A prompt is read so many tokens at a time, so that a caller who leaves is noticed within one of them.
_PREFILL_TOKENS = 256


class End(StrEnum):
    """Why an answer ended."""

    COMPLETE = "complete"
    TOKEN_LIMIT = "token_limit"
    TIME_LIMIT = "time_limit"
    ABANDONED = "abandoned"
    NOT_IN_DOCUMENTS = "not_in_documents"


@dataclass(frozen=True, slots=True)
class Limits:
    """When an answer must end.

    Attributes:
        max_tokens: tokens that may be generated.
        deadline: `time.monotonic()` seconds.
        abandoned: whether nobody waits any more; asked before every step.
    """

    max_tokens: int
    deadline: float
    abandoned: Callable[[], bool] = lambda: False


def decode(model: LanguageModel, prompt: Sequence[int], limits: Limits) -> Generator[int, None, End]:
    """Generate greedily: the same prompt gives the same answer.

    Args:
        prompt: at least one token.
    Yields:
        Each token but the one that ends the answer.
    Returns:
        Why it ended.
    """
    cache = model.new_cache()
    left, given = list(prompt), 0
    while True:
        if limits.abandoned():
            return End.ABANDONED
        if time.monotonic() >= limits.deadline:
            return End.TIME_LIMIT
        read, left = left[:_PREFILL_TOKENS], left[_PREFILL_TOKENS:]
        logits = model.forward(read, cache)
        if left:
            continue
        token = int(np.argmax(logits[-1]))
        if token in model.end_tokens:
            return End.COMPLETE
        yield token
        given += 1
        if given == limits.max_tokens:
            return End.TOKEN_LIMIT
        left = [token]


class TextStream:
    """Turns tokens into text as they come; a character of several tokens is held back until it is whole."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._tokens: list[int] = []
        self._told = 0
        self.text = ""

    def add(self, token: int) -> str:
        """Take the next token; returns what can be said now, often a word, sometimes nothing."""
        self._tokens.append(token)
        text = self._model.text_of(self._tokens)
        return "" if text.endswith("\ufffd") else self._tell(text)

    def finish(self) -> str:
        """Return what was held back."""
        return self._tell(self._model.text_of(self._tokens))

    def _tell(self, text: str) -> str:
        new, self._told, self.text = text[self._told :], len(text), text
        return new
