"""Words of a text as BM25 counts them: lower case, English stop words left out, English stems."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

import Stemmer
from bm25s.stopwords import STOPWORDS_EN

_WORD = re.compile(r"\w+")
_STOP_WORDS = frozenset(STOPWORDS_EN)


class WordSplitter:
    """Splits texts into stems; safe for any number of threads.

    Words of other languages are kept whole but for what looks like an English ending; scripts without spaces between words (Chinese,
    Japanese, Thai) are not split, so only whole runs of them match.
    """

    def __init__(self) -> None:
        self._local = threading.local()  # a stemmer keeps a buffer of its own

    def split(self, text: str) -> list[str]:
        """Return a text's stems, in order, repeats included."""
        words = [word for word in _WORD.findall(text.lower()) if word not in _STOP_WORDS]
        stemmer = getattr(self._local, "stemmer", None)
        if stemmer is None:
            stemmer = self._local.stemmer = Stemmer.Stemmer("english")
        stems: Sequence[str] = stemmer.stemWords(words)
        return list(stems)
