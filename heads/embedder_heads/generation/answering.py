"""From a question and its passages to a streamed answer with citations."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

from embedder_heads.generation.citations import cite
from embedder_heads.generation.decoding import End, Limits, TextStream, decode
from embedder_heads.generation.model import LanguageModel
from embedder_heads.generation.prompt import Passage, build_prompt

NOT_IN_DOCUMENTS = "Not in the documents."
"""What is said when no passage is near enough to the question."""

_NOT_IN_DOCUMENTS_START = "not in the documents"


@dataclass(frozen=True, slots=True)
class Ending:
    """How an answer ended.

    Attributes:
        end: why.
        tokens: tokens that were generated.
        citations: the passages that it rests on.
    """

    end: End
    tokens: int
    citations: tuple[Passage, ...]


def near_enough(passages: Sequence[Passage], *, min_cosine: float) -> bool:
    """Tell whether any passage is so near to the question that it may hold the answer."""
    return any(passage.cosine >= min_cosine for passage in passages)


def answer(
    model: LanguageModel, question: str, passages: Sequence[Passage], limits: Limits
) -> Generator[str, None, Ending]:
    """Generate an answer from passages.

    Args:
        passages: best first; those that do not fit the model's context are left out from the end.
    Yields:
        The next words.
    Returns:
        How it ended.
    Raises:
        QueryInvalid: the question does not fit the model's context.
    """
    prompt, read = build_prompt(model, question, passages, max_tokens=limits.max_tokens)
    stream, tokens = TextStream(model), 0
    steps = decode(model, prompt, limits)
    while True:
        try:
            token = next(steps)
        except StopIteration as finished:
            end: End = finished.value
            break
        tokens += 1
        if words := stream.add(token):
            yield words
    if words := stream.finish():
        yield words
    if stream.text.strip().lower().startswith(_NOT_IN_DOCUMENTS_START):
        return Ending(End.NOT_IN_DOCUMENTS, tokens, ())
    return Ending(end, tokens, tuple(cite(stream.text, question, read)))
