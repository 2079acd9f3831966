"""Real texts to embed: runs of sentences of BBC articles, with skewed lengths and a mean of about 39 tokens."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator

from embedder.demo.data import load_articles

_SENTENCE_END = re.compile(r"(?<=[.!?\"])\s+")
# Words of a text are log-normal: most texts are a sentence or two, a few are paragraphs. Mean 30 words, or 39 tokens.
_MEDIAN_WORDS = 22.5
_SIGMA = 0.75
_FEWEST_WORDS = 3
_MOST_WORDS = 160


def fresh_texts(seed: int = 0) -> Iterator[str]:
    """Yield texts without end, each different from all before; a seed gives the same ones each time.

    A text starts where a sentence does, and ends where its length, which is drawn, is reached.
    """
    draw = random.Random(seed)
    articles = [_sentences(article.text) for article in load_articles()]
    seen: set[str] = set()
    while True:
        sentences = draw.choice(articles)
        words: list[str] = []
        wanted = min(max(round(draw.lognormvariate(math.log(_MEDIAN_WORDS), _SIGMA)), _FEWEST_WORDS), _MOST_WORDS)
        for sentence in sentences[draw.randrange(len(sentences)) :]:
            words += sentence
            if len(words) >= wanted:
                break
        text = " ".join(words[:wanted])
        if text not in seen:
            seen.add(text)
            yield text


def _sentences(text: str) -> list[list[str]]:
    """Split an article into sentences of words."""
    return [
        sentence.split() for line in text.splitlines() for sentence in _SENTENCE_END.split(line) if sentence.strip()
    ]
