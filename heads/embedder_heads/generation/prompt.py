"""The prompt: what the model is told, and how many passages fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedder_heads.errors import QueryInvalid
from embedder_heads.generation.model import LanguageModel, Message

_SYSTEM = (
    "You answer questions from the given passages alone. Answer in one short sentence, with the words of the passages. "
    "If the passages do not hold the answer, say: not in the documents."
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A piece of a document that the model may read.

    Attributes:
        id: the item's id in its index.
        text: its words.
        cosine: how near its vector is to the question's.
    """

    id: str
    text: str
    cosine: float


def build_prompt(
    model: LanguageModel, question: str, passages: Sequence[Passage], *, max_tokens: int
) -> tuple[list[int], list[Passage]]:
    """Tell the model its task, the passages and the question; the last passages are left out if they do not fit.

    Args:
        passages: best first; none asks the model from what it remembers.
        max_tokens: room that the answer needs.
    Returns:
        The prompt's tokens, and the passages that are in it.
    Raises:
        QueryInvalid: the question alone does not fit.
    """
    room = model.info.context_tokens - max_tokens
    for count in range(len(passages), -1, -1):
        if passages and not count:
            break
        tokens = model.tokens_of(_messages(question, passages[:count]))
        if len(tokens) <= room:
            return tokens, list(passages[:count])
    raise QueryInvalid(
        f"the question and its best passage do not fit: the model reads {model.info.context_tokens} tokens, {max_tokens} of them "
        "are the answer's"
    )


def _messages(question: str, passages: Sequence[Passage]) -> list[Message]:
    if not passages:
        return [Message("system", "You answer questions in one short sentence."), Message("user", question)]
    # The best passage stands last, next to the question: a small model reads what is near it most faithfully.
    listed = [f"[{number}] {passages[number - 1].text}" for number in range(len(passages), 0, -1)]
    return [Message("system", _SYSTEM), Message("user", "\n\n".join([*listed, f"Question: {question}"]))]
