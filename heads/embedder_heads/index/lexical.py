"""BM25 over the texts of an index: term scores made once by bm25s, kept as mapped arrays, summed at a query.

Source: Robertson & Zaragoza 2009, "The Probabilistic Relevance Framework"; eager term scores: Lù 2024, arXiv:2407.03618.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import bm25s
import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid
from embedder_heads.index.arrays import load_array
from embedder_heads.index.strings import StringColumn, save_strings
from embedder_heads.index.words import WordSplitter

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]
Postings = tuple[npt.NDArray[np.int32], Scores]

# The values of Lucene and of most published baselines.
_K1, _B = 1.2, 0.75


class LexicalIndex:
    """BM25 scores of n items, open for searching; safe for any number of threads.

    Terms are sorted, so that a query finds its own by binary search in the mapped column: opening reads nothing into memory.
    """

    def __init__(
        self, terms: StringColumn, ends: Rows, rows: npt.NDArray[np.int32], scores: Scores, count: int
    ) -> None:
        """Hold the postings.

        Args:
            terms: t stems, in the order of their UTF-8 bytes.
            ends: (t,) where each term's postings end.
            rows: every term's items, one term after the other.
            scores: what a term adds to the score of each of `rows`.
            count: items of the index.
        """
        self._terms = terms
        self._ends = ends
        self._rows = rows
        self._scores = scores
        self._count = count
        self._words = WordSplitter()

    @classmethod
    def load(cls, folder: Path, *, count: int, terms: int, postings: int) -> LexicalIndex:
        """Map what `save_lexical` wrote; raises IndexInvalid."""
        ends = load_array(folder / "bm25.ends.npy", dtype=np.int64, shape=(terms,))
        rows = load_array(folder / "bm25.rows.npy", dtype=np.int32, shape=(postings,))
        scores = load_array(folder / "bm25.scores.npy", dtype=np.float32, shape=(postings,))
        if terms and (int(ends[-1]) != postings or (np.diff(ends) < 0).any()):
            raise IndexInvalid("bm25.ends.npy does not rise to the number of postings")
        if postings and not 0 <= int(rows.min()) <= int(rows.max()) < count:
            raise IndexInvalid(f"bm25.rows.npy names items outside of 0 to {count - 1}")
        return cls(StringColumn.load(folder, "bm25.terms", count=terms), ends, rows, scores, count)

    def scores(self, query: str) -> tuple[Rows, npt.NDArray[np.float64]]:
        """Score every item that shares a word with a query; only these are touched, not the whole index.

        Returns:
            (m,) rows, rising, and their BM25 scores over 0.
        """
        found = [postings for stem in self._words.split(query) if (postings := self._postings(stem)) is not None]
        if not found:
            return np.empty(0, np.int64), np.empty(0)
        rows, places = np.unique(np.concatenate([rows for rows, _ in found]), return_inverse=True)
        sums = np.bincount(places, weights=np.concatenate([scores for _, scores in found]))
        return rows.astype(np.int64), sums.astype(np.float64)

    def _postings(self, stem: str) -> Postings | None:
        wanted, low, high = stem.encode(), 0, len(self._terms)
        while low < high:
            middle = (low + high) // 2
            if self._terms[middle].encode() < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self._terms) or self._terms[low] != stem:
            return None
        start = int(self._ends[low - 1]) if low else 0
        end = int(self._ends[low])
        return self._rows[start:end], self._scores[start:end]


def save_lexical(folder: Path, texts: Sequence[str]) -> tuple[int, int]:
    """Score every word of every text, and write the postings.

    Returns:
        How many terms and how many postings there are, for the manifest.
    """
    splitter = WordSplitter()
    numbers: dict[str, int] = {}
    documents = [[numbers.setdefault(stem, len(numbers)) for stem in splitter.split(text)] for text in texts]
    if not numbers:  # texts of stop words alone
        _save(folder, [], np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))
        return 0, 0
    made = bm25s.BM25(k1=_K1, b=_B, method="lucene")
    postings = made.build_index_from_ids(list(numbers.values()), documents, show_progress=False)
    scores, rows, starts = (np.asarray(postings[name]) for name in ("data", "indices", "indptr"))
    terms = sorted(numbers, key=str.encode)
    order = np.array([numbers[term] for term in terms])
    lengths = np.diff(starts)[order]
    ends = np.cumsum(lengths, dtype=np.int64)
    taken = np.repeat(starts[order] - (ends - lengths), lengths) + np.arange(int(ends[-1]))
    _save(folder, terms, ends, rows[taken].astype(np.int32), scores[taken].astype(np.float32))
    return len(terms), int(ends[-1])


def _save(folder: Path, terms: Sequence[str], ends: Rows, rows: npt.NDArray[np.int32], scores: Scores) -> None:
    save_strings(folder, "bm25.terms", terms)
    np.save(folder / "bm25.ends.npy", ends)
    np.save(folder / "bm25.rows.npy", rows)
    np.save(folder / "bm25.scores.npy", scores)
