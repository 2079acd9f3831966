"""A trained recommender over one index: candidates by one search, new items by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import faiss
import numpy as np

from embedder_heads.errors import IndexInvalid, QueryInvalid, UserNotFound
from embedder_heads.index.arrays import load_array
from embedder_heads.index.filters import Filter
from embedder_heads.index.vector_index import IndexHit, VectorIndex
from embedder_heads.kinds import Floats
from embedder_heads.recommendation.more_like_this import more_like_this
from embedder_heads.recommendation.tags import tags_of
from embedder_heads.recommendation.two_tower import MANIFEST, ItemTable, TwoTower
from embedder_heads.recommendation.users import open_users, save_users

_FAISS = "recommender.faiss"


class Recommender:
    """The two towers of an index's items, memory-mapped beside it."""

    def __init__(self, folder: Path, index: VectorIndex) -> None:
        """Open what `save_recommender` wrote into the index's folder; raises IndexInvalid."""
        self._index = index
        self.tower = TwoTower.load(folder)
        t, count = self.tower.tensors, len(index)
        try:
            self._faiss = faiss.read_index(str(folder / _FAISS), faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:  # what FAISS raises for every fault of a file
            raise IndexInvalid(f"{_FAISS} can't be read: {error}") from error
        if self._faiss.ntotal != count:
            raise IndexInvalid(f"{_FAISS} holds {self._faiss.ntotal} items; the index holds {count}")
        axes, width, reads = t["axes"].shape[0], t["key"].shape[0], t["queries"].shape[0]
        self._content: Floats = load_array(folder / "recommender.content.npy", dtype=np.float32, shape=(count, axes))
        self._seen: Floats = load_array(folder / "recommender.seen.npy", dtype=np.float32, shape=(count, width))
        self._attention: Floats = load_array(
            folder / "recommender.attention.npy", dtype=np.float32, shape=(count, reads)
        )
        self.users = open_users(folder, items=count)

    def seen_by(self, user_id: str) -> list[str]:
        """Return the ids that a user of the training file had seen, oldest first; raises UserNotFound."""
        if self.users is None:
            raise UserNotFound(f"user {user_id!r} is not known: this recommender was published without users")
        return [self._index.id_of(row) for row in self.users.rows_of(user_id).tolist()]

    def histories(self) -> dict[str, list[str]]:
        """Return every user with the ids that they had seen."""
        users = {} if self.users is None else self.users.all_rows()
        return {user: [self._index.id_of(row) for row in rows.tolist()] for user, rows in users.items()}

    def recommend(
        self,
        top_k: int,
        *,
        history_ids: Sequence[str] = (),
        history_vectors: Floats | None = None,
        exclude: Sequence[str] = (),
        filters: Mapping[str, Filter] | None = None,
    ) -> list[IndexHit]:
        """Find what comes next; arguments as of `more_like_this`, and the score is a logit, not a cosine."""
        if top_k < 1:
            raise QueryInvalid(f"top_k={top_k}; it is at least 1")
        user = self._user(history_ids, history_vectors)
        allowed = self._index.allowed(filters or {}, [*history_ids, *exclude])
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        parameters = faiss.SearchParameters(sel=selector)
        scores, found = self._faiss.search(user[None], min(top_k, len(self._index)), params=parameters)
        return [
            self._index.hit(row, score)
            for row, score in zip(found[0].tolist(), scores[0].tolist(), strict=True)
            if row >= 0
        ]

    def score(
        self,
        *,
        history_ids: Sequence[str],
        history_vectors: Floats | None,
        rows: Sequence[int] = (),
        vectors: Floats | None = None,
    ) -> Floats:
        """Score candidates for a history, by the index's rows or, as new items, by their contents' vectors.

        Returns:
            (n,) float32 logits.
        """
        user = self._user(history_ids, history_vectors)
        if vectors is None:
            items = self._faiss.reconstruct_batch(np.asarray(rows, np.int64))
        else:
            items = self.tower.table(vectors, [""] * len(vectors), [()] * len(vectors)).vectors
        scores: Floats = items @ user
        return scores

    def _user(self, history_ids: Sequence[str], history_vectors: Floats | None) -> Floats:
        rows = [row for row in self._index.rows_of(history_ids) if row >= 0]
        parts = [(self._content[rows], self._seen[rows], self._attention[rows])] if rows else []
        if history_vectors is not None and len(history_vectors):
            unnamed = [""] * len(history_vectors)
            table = self.tower.table(history_vectors, unnamed, [()] * len(unnamed))
            parts.append((table.content, table.seen, table.attention))
        if not parts:
            raise QueryInvalid("none of the history's ids is in the index, and there are no contents; give one that is")
        content, seen, attention = (np.concatenate(column) for column in zip(*parts, strict=True))
        return self.tower.history_vector(content, seen, attention)


def save_recommender(
    tower: TwoTower, folder: Path, index: VectorIndex, *, users: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write a trained recommender, what it knows of every item, and what users had seen, into the index's folder."""
    vectors, ids, metadata = index.items()
    table: ItemTable = tower.table(vectors, ids, [tags_of(entry) for entry in metadata])
    searched = faiss.IndexFlatIP(table.vectors.shape[1])
    searched.add(table.vectors)
    faiss.write_index(searched, str(folder / _FAISS))
    for name, column in (("content", table.content), ("seen", table.seen), ("attention", table.attention)):
        np.save(folder / f"recommender.{name}.npy", column)
    tower.save(folder)
    if users:
        save_users(folder, users, {item_id: row for row, item_id in enumerate(ids)})


def open_recommender(folder: Path, index: VectorIndex) -> Recommender | None:
    """Open the recommender of an index's folder; None when it has none, IndexInvalid when its files are not right."""
    return Recommender(folder, index) if (folder / MANIFEST).exists() else None


def seen_by(recommender: Recommender | None, user_id: str) -> list[str]:
    """Return what a user had seen, or nothing when none is named; raises UserNotFound."""
    if not user_id:
        return []
    if recommender is None:
        raise UserNotFound(f"user {user_id!r} is not known: the index has no trained recommender; give a history")
    return recommender.seen_by(user_id)


def recommend(
    index: VectorIndex,
    recommender: Recommender | None,
    top_k: int,
    *,
    history_ids: Sequence[str] = (),
    history_vectors: Floats | None = None,
    exclude: Sequence[str] = (),
    filters: Mapping[str, Filter] | None = None,
) -> list[IndexHit]:
    """Recommend by the index's trained recommender, or by likeness where it has none; see `more_like_this`."""
    if recommender is not None:
        return recommender.recommend(
            top_k, history_ids=history_ids, history_vectors=history_vectors, exclude=exclude, filters=filters
        )
    return more_like_this(
        index, top_k, history_ids=history_ids, history_vectors=history_vectors, exclude=exclude, filters=filters
    )
