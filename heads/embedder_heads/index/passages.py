"""Cuts long documents into passages that an encoder and a language model can read whole."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A sentence ends at a mark, perhaps with a closing quote, before a space and something that may begin one.
_SENTENCE_END = re.compile(r"(?:(?<=[.!?])|(?<=[.!?][\"')\]]))\s+(?=[\"'(\[]?[A-Z0-9À-ÖØ-Þ])|(?<=[。！？])|\n+")


def split_passages(text: str, *, max_words: int = 100) -> list[str]:
    """Cut a text at the ends of sentences and paragraphs into passages of at most `max_words` words.

    A longer sentence is cut between words; passages do not overlap, so that an answer is cited once.
    """
    passages: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        words: list[str] = []
        for piece in _pieces(paragraph, max_words):
            if words and len(words) + len(piece) > max_words:
                passages.append(" ".join(words))
                words = []
            words += piece
        if words:
            passages.append(" ".join(words))
    return passages


def _pieces(paragraph: str, max_words: int) -> Iterator[list[str]]:
    for sentence in _SENTENCE_END.split(paragraph):
        words = sentence.split()
        for start in range(0, len(words), max_words):
            yield words[start : start + max_words]
