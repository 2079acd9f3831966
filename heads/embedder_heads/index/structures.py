"""FAISS structures: which one a number of items asks for, how it is built, tuned and searched."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid
from embedder_heads.kinds import Floats

FILE = "index.faiss"
TARGET_RECALL = 0.993
"""Share of the true ten nearest that a structure is tuned to find: 0.99, and what a sample of queries may flatter."""

_FLAT_ITEMS = 50_000
_HNSW_ITEMS = 200_000
_IVF_FLAT_ITEMS = 2_000_000
_HNSW_LINKS = 32
_HNSW_BUILD_BREADTH = 80
_TRAINING_PER_LIST = 48
_PQ_DIMS_PER_BYTE = 4
_RERANK_FACTOR = 20
_TUNING_QUERIES = 500
_BREADTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
_BLAS_QUERIES = 4


class IndexKind(StrEnum):
    """How an index searches."""

    FLAT = "flat"
    HNSW = "hnsw"
    IVF_FLAT = "ivf_flat"
    IVF_PQ = "ivf_pq"


@dataclass(frozen=True, slots=True)
class Tuning:
    """How broadly a structure searches, and what that was measured to find.

    Attributes:
        breadth: lists probed, or candidates kept while walking the graph; 0 for a flat structure.
        recall_at_10: share of the true ten nearest that was found.
        queries: queries behind it; 0 where the structure is exact by construction.
    """

    breadth: int
    recall_at_10: float
    queries: int


def kind_for(items: int) -> IndexKind:
    """Return the kind that a number of items asks for; measured at 384 dimensions on 2 cores, see docs/decisions."""
    if items <= _FLAT_ITEMS:
        return IndexKind.FLAT
    if items <= _HNSW_ITEMS:
        return IndexKind.HNSW
    return IndexKind.IVF_FLAT if items <= _IVF_FLAT_ITEMS else IndexKind.IVF_PQ


class Structure:
    """A FAISS structure that is open for searching; safe for any number of threads."""

    def __init__(self, searched: Any, kind: IndexKind, breadth: int) -> None:
        self._searched = searched
        self._kind = kind
        self._breadth = breadth

    @classmethod
    def load(cls, folder: Path, kind: IndexKind, breadth: int, *, items: int, dim: int) -> Structure:
        """Map the file that `build` wrote; raises IndexInvalid when it is not what is said of it."""
        try:
            searched = faiss.read_index(str(folder / FILE), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:  # what FAISS raises for every fault of a file
            raise IndexInvalid(f"{FILE} can't be read: {error}") from error
        if (searched.ntotal, searched.d) != (items, dim) or not isinstance(searched, _CLASSES[kind]):
            given = f"{type(searched).__name__} of {searched.ntotal} vectors of dim {searched.d}"
            raise IndexInvalid(f"{FILE} is {given}; the manifest says {kind} of {items} of dim {dim}")
        # FAISS 1.15 compares queries x dim with this, and ships 128,000. Measured at 384 dimensions, matrix products win from a few
        # queries on, and cost a single query on lists four times its time: their threads keep the cores busy while the lists are read.
        faiss.cvar.distance_compute_blas_threshold = _BLAS_QUERIES * dim
        return cls(searched, kind, breadth)

    @classmethod
    def build(cls, vectors: Floats, kind: IndexKind, folder: Path) -> tuple[Structure, Tuning]:
        """Build, tune and write a structure.

        It is tuned before the last rows are added, which serve as queries that it does not hold.

        Args:
            vectors: (n, dim) float32 unit vectors, contiguous, in no order for an approximate kind.
            kind: how it searches.
            folder: where `index.faiss` goes.
        """
        searched = _empty(kind, len(vectors), vectors.shape[1])
        if not searched.is_trained:
            searched.train(vectors[: _TRAINING_PER_LIST * searched.nlist])
        held_out = 0 if kind is IndexKind.FLAT else min(_TUNING_QUERIES, len(vectors) // 10)
        split = len(vectors) - held_out
        searched.add(vectors[:split])
        tuning = Tuning(0, 1.0, 0)
        if held_out:
            tuning = cls(searched, kind, 0)._tune(vectors[:split], vectors[split:])
            searched.add(vectors[split:])
        faiss.write_index(searched, str(folder / FILE))
        return cls(searched, kind, tuning.breadth), tuning

    @property
    def approximate_scores(self) -> bool:
        """Whether scores come from compressed vectors, so that hits must be ranked again by the vectors themselves."""
        return self._kind is IndexKind.IVF_PQ

    def search(
        self, queries: Floats, count: int, allowed: npt.NDArray[np.bool_] | None = None
    ) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Search.

        Args:
            queries: (n, dim) float32.
            count: rows to find for each query.
            allowed: (items,) bool of the rows that may be found; None allows all.
        Returns:
            (n, count) inner products and rows, best first; row -1 where nothing was left.
        """
        options: dict[str, Any] = {}
        if allowed is not None:
            options["sel"] = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        if self._kind is IndexKind.HNSW:
            parameters = faiss.SearchParametersHNSW(efSearch=max(self._breadth, count), **options)
        elif self._kind in (IndexKind.IVF_FLAT, IndexKind.IVF_PQ):
            parameters = faiss.SearchParametersIVF(nprobe=max(self._breadth, 1), **options)
        else:
            parameters = faiss.SearchParameters(**options) if options else None
        scores, rows = self._searched.search(np.ascontiguousarray(queries), count, params=parameters)
        return scores, rows

    def _tune(self, vectors: Floats, queries: Floats) -> Tuning:
        """Find the least breadth that reaches the target recall on queries that the structure does not hold."""
        truth = exact_rows(queries, vectors, 10)
        recall = 0.0
        for breadth in _BREADTHS:
            recall = _recall(Structure(self._searched, self._kind, breadth), queries, truth, vectors)
            if recall >= TARGET_RECALL or breadth >= getattr(self._searched, "nlist", breadth + 1):
                break
        return Tuning(breadth, recall, len(queries))


def candidates_for(top_k: int, structure: Structure) -> int:
    """Return how many rows to ask a structure for when `top_k` are wanted in the end."""
    return top_k * _RERANK_FACTOR if structure.approximate_scores else top_k


def exact_rows(queries: Floats, vectors: npt.NDArray[np.floating[Any]], count: int) -> npt.NDArray[np.int64]:
    """Return the (n, count) rows nearest to each query, best first, by comparing with every vector in blocks."""
    count = min(count, len(vectors))
    best = np.full((len(queries), count), -np.inf, np.float32)
    rows = np.full((len(queries), count), -1, np.int64)
    for start in range(0, len(vectors), 65_536):
        block = np.asarray(vectors[start : start + 65_536], np.float32)
        scores = np.concatenate([best, queries @ block.T], axis=1)
        numbers = np.broadcast_to(np.arange(start, start + len(block)), (len(queries), len(block)))
        numbers = np.concatenate([rows, numbers], axis=1)
        kept = np.argpartition(-scores, count - 1, axis=1)[:, :count]
        best, rows = np.take_along_axis(scores, kept, axis=1), np.take_along_axis(numbers, kept, axis=1)
    order = np.argsort(-best, axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)


def _recall(structure: Structure, queries: Floats, truth: npt.NDArray[np.int64], vectors: Floats) -> float:
    _, rows = structure.search(queries, candidates_for(truth.shape[1], structure))
    hits = 0
    for query, candidates, wanted in zip(queries, rows, truth, strict=True):
        found = candidates[candidates >= 0]
        best = np.argsort(-(vectors[found] @ query), kind="stable")[: len(wanted)]
        hits += len(np.intersect1d(found[best], wanted, assume_unique=True))
    return hits / truth.size


def _empty(kind: IndexKind, items: int, dim: int) -> Any:
    product = faiss.METRIC_INNER_PRODUCT
    if kind is IndexKind.FLAT:
        return faiss.IndexFlatIP(dim)
    if kind is IndexKind.HNSW:
        graph = faiss.IndexHNSWFlat(dim, _HNSW_LINKS, product)
        graph.hnsw.efConstruction = _HNSW_BUILD_BREADTH
        return graph
    lists = max(1, min(4 * math.isqrt(items), items // 40))
    if kind is IndexKind.IVF_FLAT:
        return faiss.index_factory(dim, f"IVF{lists},Flat", product)
    parts = next(parts for parts in range(max(dim // _PQ_DIMS_PER_BYTE, 1), 0, -1) if dim % parts == 0)
    return faiss.index_factory(dim, f"IVF{lists},PQ{parts}x8", product)


_CLASSES = {
    IndexKind.FLAT: faiss.IndexFlat,
    IndexKind.HNSW: faiss.IndexHNSW,
    IndexKind.IVF_FLAT: faiss.IndexIVFFlat,
    IndexKind.IVF_PQ: faiss.IndexIVFPQ,
}
