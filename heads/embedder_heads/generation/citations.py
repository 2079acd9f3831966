"""Which passages an answer rests on: by the marks that the model set, else by the words that it took from them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embedder_heads.generation.prompt import Passage
from embedder_heads.index.words import WordSplitter

_MARK = re.compile(r"\[(\d{1,3})\]")
# A passage with nearly as many of the answer's words as the best one is cited too.
_NEARLY = 0.9


def cite(answer: str, question: str, passages: Sequence[Passage]) -> list[Passage]:
    """Return the passages that an answer rests on, the strongest first.

    A model may mark them as `[2]`. Small models rarely do: then the passages are cited that hold most of the answer's words, those of
    the question not counted, for they prove nothing.
    """
    marked = dict.fromkeys(int(mark) for mark in _MARK.findall(answer))
    chosen = [passages[number - 1] for number in marked if 0 < number <= len(passages)]
    if chosen:
        return chosen
    splitter = WordSplitter()
    asked = set(splitter.split(question))
    said = set(splitter.split(answer))
    said = said - asked or said
    if not said:
        return []
    shares = [len(said & set(splitter.split(passage.text))) / len(said) for passage in passages]
    best = max(shares, default=0.0)
    if not best:
        return []
    ranked = sorted(range(len(passages)), key=lambda place: -shares[place])
    return [passages[place] for place in ranked if shares[place] >= _NEARLY * best]
