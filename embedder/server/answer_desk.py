"""Answers questions from an index's passages: finds them, holds the language model, and admits one answer at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import structlog

from embedder.config import ServeSettings
from embedder.errors import InvalidRequest
from embedder.server.turnstile import Turnstile
from embedder_heads.errors import GeneratorUnavailable
from embedder_heads.generation.answering import Ending, answer
from embedder_heads.generation.decoding import End, Limits
from embedder_heads.generation.model import LanguageModel
from embedder_heads.generation.prompt import Passage

_log = structlog.get_logger(__name__)

_DEFAULT_MAX_TOKENS = 256
# What the last words need to reach the caller before its deadline.
_LAST_WORDS_S = 0.25


@dataclass(frozen=True, slots=True)
class Asker:
    """Who waits for an answer.

    Attributes:
        deadline: `time.monotonic()` seconds after which nobody waits.
        gone: set when the caller went away.
    """

    deadline: float
    gone: threading.Event


class AnswerDesk:
    """The one place of a process where text is generated."""

    def __init__(self, settings: ServeSettings, load: Callable[[], LanguageModel] | None) -> None:
        """Take what loads the model; None when no model is to answer."""
        self._settings = settings
        self._load = load
        self._model: LanguageModel | None = None
        self._loading = threading.Lock()
        self._turnstile = Turnstile(max_waiting=settings.max_waiting_answers)

    @property
    def min_cosine(self) -> float:
        """How near a passage must be to the question for an answer to be tried."""
        return self._settings.answer_min_cosine

    def load(self) -> LanguageModel:
        """Return the model, loaded at the first call.

        Raises:
            GeneratorUnavailable: it can't be loaded, or none is set.
        """
        with self._loading:
            if self._load is None:
                raise GeneratorUnavailable("answers are off here (answer_model=off); Retrieve finds the passages")
            if self._model is None:
                start = time.perf_counter()
                self._model = self._load()
                info = self._model.info
                seconds = round(time.perf_counter() - start, 2)
                _log.info("answer model ready", model=info.name, numerics=info.numerics, seconds=seconds)
            return self._model

    def check_max_tokens(self, max_tokens: int) -> int:
        """Return how long an answer may be, 256 tokens if the call does not say and the limit allows it.

        Raises:
            InvalidRequest: it is over the service's limit.
        """
        limit = self._settings.answer_max_tokens
        if max_tokens > limit:
            raise InvalidRequest(f"max_tokens={max_tokens}; the limit is {limit} (answer_max_tokens)")
        return max_tokens or min(_DEFAULT_MAX_TOKENS, limit)

    def answer(
        self, question: str, passages: list[Passage], *, max_tokens: int, asker: Asker
    ) -> Generator[str, None, Ending]:
        """Generate an answer when it is one's turn, and stop when the asker goes away.

        Yields:
            The next words.
        Returns:
            How it ended; ABANDONED when the asker went away.
        Raises:
            Overloaded, DeadlineExpired: it was not, or not in time, one's turn.
            GeneratorUnavailable: no model can answer.
        """
        with self._turnstile.turn(deadline=asker.deadline, abandoned=asker.gone.is_set) as here:
            if not here:
                return Ending(End.ABANDONED, 0, ())
            model = self.load()
            limit = time.monotonic() + self._settings.answer_time_limit_ms / 1_000
            limits = Limits(max_tokens, min(limit, asker.deadline - _LAST_WORDS_S), asker.gone.is_set)
            return (yield from answer(model, question, passages, limits))

    def asker_left(self, asker: Asker) -> None:
        """Let an asker go: nothing more is generated for it."""
        asker.gone.set()
        self._turnstile.wake()
