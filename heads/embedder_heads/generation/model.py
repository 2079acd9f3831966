"""What a generator is: a causal language model behind an interface, with a cache of its own kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is loaded.

    Attributes:
        name: what was asked for.
        parameters: how many numbers it has learned.
        context_tokens: the longest prompt and answer together.
        numerics: dtype of its arithmetic, and its attention.
    """

    name: str
    parameters: int
    context_tokens: int
    numerics: str


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is "system" or "user"."""

    role: str
    content: str


class DecodingCache(Protocol):
    """Keys and values of the tokens that one answer has read; what they are is the model's own affair.

    Not shared by answers or threads.
    """

    @property
    def length(self) -> int:
        """Tokens that are held."""
        ...

    def crop(self, length: int) -> None:
        """Forget the tokens after the first `length`, as a decoder does that drafts tokens and takes some back."""
        ...


class LanguageModel(Protocol):
    """A causal language model. The decode loop (`decoding.py`) drives it token by token and owns the cache.

    So a cheaper attention, a compressed cache or a drafting head is another implementation of these five methods.
    """

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        ...

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        ...

    def tokens_of(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation as the model's tokens, up to where the answer begins."""
        ...

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return tokens as text; an unfinished character is U+FFFD."""
        ...

    def new_cache(self) -> DecodingCache:
        """Return an empty cache."""
        ...

    def forward(self, tokens: Sequence[int], cache: DecodingCache) -> Logits:
        """Read tokens after those of the cache, which then holds them too.

        Args:
            tokens: at least one.
            cache: of this model's `new_cache`.
        Returns:
            (len(tokens), vocabulary) float32: after each token, the scores of the next; only the last row when there are
            more than `DRAFT_TOKENS`, as in a prompt.
        """
        ...


DRAFT_TOKENS = 16
"""So many tokens at most are drafted and checked at once; the scores of longer runs are wanted after the last token alone."""
