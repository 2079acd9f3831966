"""One immutable nearest-neighbour index: vectors, ids and metadata of one space, memory-mapped."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from embedder_heads.errors import HeadSpaceMismatch, IndexInvalid, QueryInvalid
from embedder_heads.index.arrays import load_array
from embedder_heads.index.ids import IdTable, save_ids
from embedder_heads.index.manifest import IndexKind, IndexManifest, load_manifest, save_manifest
from embedder_heads.index.metadata import Filter, Metadata, MetadataTable, Scalar, save_metadata
from embedder_heads.kinds import Floats

_FAISS = "index.faiss"
_VECTORS = "vectors.npy"


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
            folder: what `VectorIndex.build` filled.
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
        self._vectors = load_array(folder / _VECTORS, dtype=np.float16, shape=(items, dim))
        try:
            self._faiss = faiss.read_index(str(folder / _FAISS), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:  # what FAISS raises for every fault of a file
            raise IndexInvalid(f"{_FAISS} can't be read: {error}") from error
        if (self._faiss.ntotal, self._faiss.d) != (items, dim):
            given = f"{self._faiss.ntotal} vectors of dim {self._faiss.d}"
            raise IndexInvalid(f"{_FAISS} holds {given}; the manifest says {items} of dim {dim}")

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the metadata fields that filters may name."""
        return self._metadata.fields

    @staticmethod
    def build(
        folder: Path,
        vectors: Floats,
        ids: Sequence[str],
        metadata: Sequence[Metadata],
        *,
        space_digest: bytes,
        name: str,
        version: int,
    ) -> IndexManifest:
        """Write an index into an empty folder.

        Args:
            folder: where its files go.
            vectors: (n, dim) float32 unit vectors.
            ids: n ids, each once.
            metadata: n objects of texts, numbers and lists of texts; may be empty objects.
            space_digest: the vectors' space, 32 bytes.
            name: name that the index gets.
            version: version that it gets.
        Returns:
            The manifest as written.
        Raises:
            QueryInvalid: counts differ, there is no item, a value is not finite, or an id comes twice.
        """
        vectors = np.ascontiguousarray(vectors, np.float32)
        if vectors.ndim != 2 or not len(vectors) or not len(vectors) == len(ids) == len(metadata):
            counts = f"{vectors.shape} vectors, {len(ids)} ids and {len(metadata)} metadata objects"
            raise QueryInvalid(
                f"an index needs as many vectors as ids and metadata objects, at least one; given {counts}"
            )
        if not np.isfinite(vectors).all():
            raise QueryInvalid("a vector holds NaN or infinity")
        save_ids(folder, ids)
        save_metadata(folder, metadata)
        np.save(folder / _VECTORS, vectors.astype(np.float16))
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        faiss.write_index(index, str(folder / _FAISS))
        manifest = IndexManifest(
            name=name,
            version=version,
            kind=IndexKind.FLAT,
            space_digest=space_digest.hex(),
            dim=vectors.shape[1],
            items=len(ids),
            recall_at_10=1.0,
            recall_queries=0,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        save_manifest(manifest, folder)
        return manifest

    def __len__(self) -> int:
        return self.manifest.items

    def __contains__(self, item_id: str) -> bool:
        return self._ids.row_of(item_id) >= 0

    def check_space(self, space_digest: bytes) -> None:
        """Check that the index is of a space (32 bytes); raises HeadSpaceMismatch."""
        if self.manifest.space_digest != space_digest.hex():
            ref = f"{self.manifest.name}@{self.manifest.version}"
            raise HeadSpaceMismatch(ref, wants=self.manifest.space_digest, has=space_digest.hex())

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """Return the row of each id, -1 for one that is not in the index."""
        return [self._ids.row_of(item_id) for item_id in ids]

    def items(self) -> tuple[Floats, list[str], list[dict[str, Scalar | list[str]]]]:
        """Read everything back: (n, dim) float32 vectors, ids and metadata."""
        rows = range(len(self))
        ids, metadata = [self._ids.id_of(row) for row in rows], [self._metadata.of(row) for row in rows]
        return np.asarray(self._vectors, np.float32), ids, metadata

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
        if queries.ndim != 2 or queries.dtype != np.float32 or queries.shape[1] != self.manifest.dim:
            wanted = f"(n, {self.manifest.dim}) float32"
            raise QueryInvalid(f"queries are {queries.dtype} of shape {queries.shape}; this index takes {wanted}")
        if top_k < 1:
            raise QueryInvalid(f"top_k={top_k}; it is at least 1")
        allowed = self.allowed(filters or {}, exclude)
        parameters = None
        if allowed is not None:
            selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
            parameters = faiss.SearchParameters(sel=selector)
        count = min(top_k, len(self))
        scores, rows = self._faiss.search(np.ascontiguousarray(queries), count, params=parameters)
        return [
            [self.hit(row, score) for row, score in zip(*found, strict=True) if row >= 0]
            for found in zip(rows.tolist(), scores.tolist(), strict=True)
        ]

    def allowed(self, filters: Mapping[str, Filter], exclude: Iterable[str]) -> npt.NDArray[np.bool_] | None:
        """Return (items,) bool of the rows that pass every filter and are not excluded; None when all of them do."""
        excluded = [row for row in self.rows_of(exclude) if row >= 0]
        if not filters and not excluded:
            return None
        mask = self._metadata.mask(filters)
        mask[excluded] = False
        return mask

    def hit(self, row: int, score: float) -> IndexHit:
        """Return a row as something found."""
        return IndexHit(self._ids.id_of(row), score, self._metadata.of(row))
