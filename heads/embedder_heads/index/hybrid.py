"""One search by meaning, by words, or by both: each finds its candidates, and one score ranks them all.

Source: Bruch, Gai & Ingber 2023, "An Analysis of Fusion Functions for Hybrid Retrieval" (a convex combination of scores on one scale
does better than reciprocal ranks; measured here too, see docs/retrieval.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.filters import Filter
from embedder_heads.index.vector_index import IndexHit, VectorIndex
from embedder_heads.kinds import Floats

DEFAULT_DENSE_WEIGHT = 0.7
"""How much the cosine counts beside the words; see docs/retrieval.md for what it was measured on."""

_CANDIDATES = 100


class SearchMode(StrEnum):
    """What a query is compared by."""

    DENSE = "dense"
    LEXICAL = "lexical"
    HYBRID = "hybrid"


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """How an index is searched.

    Attributes:
        top_k: items to find for each query.
        mode: by vectors, by words, or by both.
        filters: metadata field to what it must be.
        dense_weight: in hybrid mode, the cosine's share of the score, 0 to 1; the words have the rest.
        candidates: items that each part of a hybrid search brings; at least `top_k` are taken.
    """

    top_k: int = 10
    mode: SearchMode = SearchMode.DENSE
    filters: Mapping[str, Filter] = field(default_factory=dict)
    dense_weight: float = DEFAULT_DENSE_WEIGHT
    candidates: int = _CANDIDATES


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """What is sought: a vector (dim,) float32, and its words; None where the query is no text."""

    vector: Floats
    text: str | None = None


def search(index: VectorIndex, queries: Sequence[Query], options: SearchOptions) -> list[list[IndexHit]]:
    """Search an index.

    Returns:
        For each query its hits, best first. The score is the cosine, the BM25 score, or in hybrid mode
        `w * cosine + (1 - w) * BM25 / the query's best BM25`.
    Raises:
        QueryInvalid: a filter, count or weight is not possible, or words are asked for and the index or a query has none.
    """
    if not 0.0 <= options.dense_weight <= 1.0:
        raise QueryInvalid(f"dense_weight={options.dense_weight:g}; it is 0 (words alone) to 1 (vectors alone)")
    vectors = np.stack([query.vector for query in queries])  # (n, dim)
    if options.mode is SearchMode.DENSE:
        return index.search(vectors, options.top_k, filters=options.filters)
    if options.top_k < 1:
        raise QueryInvalid(f"top_k={options.top_k}; it is at least 1")
    if index.lexical is None:
        ref = f"{index.manifest.name}@{index.manifest.version}"
        raise QueryInvalid(f"{ref} keeps no texts, so it can't be searched by words; build it again with its texts")
    allowed = index.allowed(options.filters, ()) if options.filters else None
    words = [_by_words(index, query, allowed) for query in queries]
    if options.mode is SearchMode.LEXICAL:
        return [_hits(index, *found, options.top_k) for found in words]
    depth = max(options.candidates, options.top_k)
    near, _ = index.search_rows(vectors, depth, allowed=allowed)
    weight = options.dense_weight
    return [
        _hits(
            index,
            *_fused(index, query.vector, np.array(rows, np.int64), found, depth=depth, weight=weight),
            options.top_k,
        )
        for query, rows, found in zip(queries, near, words, strict=True)
    ]


_Scored = tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]


def _by_words(index: VectorIndex, query: Query, allowed: npt.NDArray[np.bool_] | None) -> _Scored:
    if query.text is None:
        raise QueryInvalid("a query that is no text has no words; search by vectors (dense)")
    assert index.lexical is not None
    rows, scores = index.lexical.scores(query.text)
    return (rows, scores) if allowed is None else (rows[allowed[rows]], scores[allowed[rows]])


def _fused(
    index: VectorIndex, vector: Floats, near: npt.NDArray[np.int64], words: _Scored, *, depth: int, weight: float
) -> _Scored:
    """Score what either part found by both: a candidate of one part has its true score in the other, never a missing one."""
    rows, scores = words
    best = rows[np.argpartition(-scores, depth - 1)[:depth]] if len(rows) > depth else rows
    candidates = np.union1d(near, best)
    lexical = np.zeros(len(candidates))
    if len(rows):
        places = np.minimum(np.searchsorted(rows, candidates), len(rows) - 1)
        lexical = np.where(rows[places] == candidates, scores[places], 0.0) / scores.max()
    return candidates, weight * index.cosines(vector, candidates) + (1.0 - weight) * lexical


def _hits(
    index: VectorIndex, rows: npt.NDArray[np.int64], scores: npt.NDArray[np.float64], top_k: int
) -> list[IndexHit]:
    order = np.lexsort((rows, -scores))[:top_k]  # ties go to the lower row, so that an answer does not change by chance
    return [index.hit(int(rows[place]), float(scores[place])) for place in order]
