"""One immutable nearest-neighbour index: vectors, ids and metadata of one space, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import HeadSpaceMismatch, IndexInvalid, QueryInvalid
from embedder_heads.index.arrays import load_array
from embedder_heads.index.filters import Filter, Scalar
from embedder_heads.index.ids import IdTable
from embedder_heads.index.lexical import LexicalIndex
from embedder_heads.index.manifest import load_manifest
from embedder_heads.index.metadata import MetadataTable
from embedder_heads.index.structures import IndexKind, Structure, candidates_for, exact_rows
from embedder_heads.index.texts import load_texts
from embedder_heads.kinds import Floats

VECTORS = "vectors.npy"
_EXACT_ROWS = (
    20_000  # so few rows are compared one by one, rather than sought in a graph or lists that hold mostly others
)


@dataclass(frozen=True, slots=True, eq=False)
class IndexHit:
    """One found item.

    Attributes:
        id: the item's id.
        score: cosine similarity to the query.
        metadata: what the index holds beside the vector.
    """

    id: str
    score: float
    metadata: Mapping[str, Scalar | list[str]]


class VectorIndex:
    """A nearest-neighbour index that is open for searching; safe for any number of threads."""

    def __init__(self, folder: Path) -> None:
        """Open an index's folder.

        Args:
            folder: what `build_index` filled.
        Raises:
            IndexInvalid: a file is missing, damaged, or not what the manifest says.
        """
        links = [path.name for path in folder.iterdir() if path.is_symlink()] if folder.is_dir() else []
        if links:
            raise IndexInvalid(f"{links[0]} is a link; an index is read from its own folder only")
        self.manifest = load_manifest(folder)
        items, dim = self.manifest.items, self.manifest.dim
        self._ids = IdTable.load(folder, count=items)
        self._metadata = MetadataTable.load(folder, count=items)
        self._vectors = load_array(folder / VECTORS, dtype=np.float16, shape=(items, dim))
        self._structure = Structure.load(folder, self.manifest.kind, self.manifest.breadth, items=items, dim=dim)
        words = self.manifest.words
        self._texts = None if words is None else load_texts(folder, count=items)
        self.lexical: LexicalIndex | None = None
        if words is not None:
            self.lexical = LexicalIndex.load(folder, count=items, terms=words.terms, postings=words.postings)

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the metadata fields that filters may name."""
        return self._metadata.fields

    def __len__(self) -> int:
        return self.manifest.items

    def __contains__(self, item_id: str) -> bool:
        return self._ids.row_of(item_id) >= 0

    def check_space(self, space_digest: bytes) -> None:
        """Check that the index is of a space (32 bytes); raises HeadSpaceMismatch."""
        if self.manifest.space_digest != space_digest.hex():
            ref = f"{self.manifest.name}@{self.manifest.version}"
            raise HeadSpaceMismatch(ref, wants=self.manifest.space_digest, has=space_digest.hex())

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        return self._ids.id_of(row)

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """Return the row of each id, -1 for one that is not in the index."""
        return [self._ids.row_of(item_id) for item_id in ids]

    def items(self, rows: Sequence[int] | None = None) -> tuple[Floats, list[str], list[dict[str, Scalar | list[str]]]]:
        """Read rows back, or everything: (n, dim) float32 vectors, ids and metadata."""
        vectors = np.asarray(self._vectors if rows is None else self._vectors[list(rows)], np.float32)
        rows = range(len(self)) if rows is None else rows
        return vectors, [self._ids.id_of(row) for row in rows], [self._metadata.of(row) for row in rows]

    def texts(self) -> list[str] | None:
        """Read every item's text; None when the index keeps none."""
        return None if self._texts is None else [self._texts[row] for row in range(len(self))]

    def text_of(self, item_id: str) -> str:
        """Read one item's text; empty when it has none."""
        row = self._ids.row_of(item_id)
        return "" if self._texts is None or row < 0 else self._texts[row]

    def cosines(self, query: Floats, rows: npt.NDArray[np.int64]) -> Floats:
        """Compare a (dim,) query with the stored vectors of rows; (m,) float32."""
        found: Floats = self._vectors[rows].astype(np.float32) @ query
        return found

    def vectors_of(self, ids: Sequence[str]) -> Floats:
        """Read items' vectors.

        Returns:
            (len(ids), dim) float32.
        Raises:
            QueryInvalid: an id is not in the index.
        """
        rows = self.rows_of(ids)
        missing = [item_id for item_id, row in zip(ids, rows, strict=True) if row < 0]
        if missing:
            raise QueryInvalid(f"{len(missing)} ids are not in {self.manifest.name}, such as {missing[0]!r}")
        vectors: Floats = self._vectors[rows].astype(np.float32)
        return vectors

    def search(
        self,
        queries: Floats,
        top_k: int,
        *,
        filters: Mapping[str, Filter] | None = None,
        exclude: Iterable[str] = (),
    ) -> list[list[IndexHit]]:
        """Find the items nearest to each query.

        Args:
            queries: (n, dim) float32 unit vectors of the index's space.
            top_k: items to find for each query; fewer come back when fewer pass.
            filters: metadata field to what it must be.
            exclude: ids that must not come back; unknown ones are fine.
        Returns:
            For each query its hits, best first.
        Raises:
            QueryInvalid: the queries' shape or dtype, `top_k` or a filter is not possible.
        """
        rows, scores = self.search_rows(queries, top_k, filters=filters, exclude=exclude)
        return [
            [self.hit(row, score) for row, score in zip(*found, strict=True)]
            for found in zip(rows, scores, strict=True)
        ]

    def search_rows(
        self,
        queries: Floats,
        top_k: int,
        *,
        filters: Mapping[str, Filter] | None = None,
        exclude: Iterable[str] = (),
        allowed: npt.NDArray[np.bool_] | None = None,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Search as `search` does; `allowed` (items,) bool stands for the filters and exclusions where it is known already.

        Returns:
            For each query its rows and their cosines, best first.
        """
        if queries.ndim != 2 or queries.dtype != np.float32 or queries.shape[1] != self.manifest.dim:
            wanted = f"(n, {self.manifest.dim}) float32"
            raise QueryInvalid(f"queries are {queries.dtype} of shape {queries.shape}; this index takes {wanted}")
        if top_k < 1:
            raise QueryInvalid(f"top_k={top_k}; it is at least 1")
        count = min(top_k, len(self))
        if allowed is not None or filters:
            allowed = self.allowed(filters or {}, exclude) if allowed is None else allowed
            rows, scores = self._search_allowed(queries, count, np.flatnonzero(allowed), allowed)
        else:
            excluded = {row for row in self.rows_of(exclude) if row >= 0}
            rows, scores = self._search_all(queries, count, excluded)
        return rows, scores

    def _search_all(self, queries: Floats, count: int, excluded: set[int]) -> tuple[list[list[int]], list[list[float]]]:
        """Search all items, a few more than wanted, and drop the excluded."""
        wanted = min(candidates_for(count + len(excluded), self._structure), len(self))
        scores, rows = self._structure.search(queries, wanted)
        if self._structure.approximate_scores:
            scores, rows = self._rank_again(queries, rows)
        kept_rows, kept_scores = [], []
        for row_numbers, row_scores in zip(rows.tolist(), scores.tolist(), strict=True):
            kept = [(r, s) for r, s in zip(row_numbers, row_scores, strict=True) if r >= 0 and r not in excluded][
                :count
            ]
            kept_rows.append([row for row, _ in kept])
            kept_scores.append([score for _, score in kept])
        return kept_rows, kept_scores

    def _search_allowed(
        self, queries: Floats, count: int, rows: npt.NDArray[np.intp], allowed: npt.NDArray[np.bool_]
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Search what passed the filters: exactly when that is little, else by the structure."""
        if self.manifest.kind is not IndexKind.FLAT and len(rows) <= _EXACT_ROWS:
            vectors = self._vectors[rows]
            best = exact_rows(queries, vectors, count)  # (n, at most count), places in `rows`
            scores = np.einsum("nd,nkd->nk", queries, vectors[best].astype(np.float32))
            return rows[best].tolist(), scores.tolist()
        scores, found = self._structure.search(queries, candidates_for(count, self._structure), allowed)
        if self._structure.approximate_scores:
            scores, found = self._rank_again(queries, found)
        pairs = [
            [(r, s) for r, s in zip(*both, strict=True) if r >= 0][:count]
            for both in zip(found.tolist(), scores.tolist(), strict=True)
        ]
        return [[r for r, _ in hits] for hits in pairs], [[s for _, s in hits] for hits in pairs]

    def _rank_again(self, queries: Floats, rows: npt.NDArray[np.int64]) -> tuple[Floats, npt.NDArray[np.int64]]:
        """Rank candidates by their stored vectors; (n, m) rows of which -1 are none."""
        scores = np.einsum("nd,nmd->nm", queries, self._vectors[rows].astype(np.float32))
        scores[rows < 0] = -np.inf
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)

    def allowed(self, filters: Mapping[str, Filter], exclude: Iterable[str]) -> npt.NDArray[np.bool_]:
        """Return (items,) bool of the rows that pass every filter and are not excluded."""
        mask = self._metadata.mask(filters)
        mask[[row for row in self.rows_of(exclude) if row >= 0]] = False
        return mask

    def hit(self, row: int, score: float) -> IndexHit:
        """Return a row as something found."""
        return IndexHit(self._ids.id_of(row), score, self._metadata.of(row))
