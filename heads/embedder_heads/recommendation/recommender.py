"""A trained recommender over one index: candidates by one search, new items by their content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import faiss
import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid, QueryInvalid, UserNotFound
from embedder_heads.index.arrays import load_array
from embedder_heads.index.filters import Filter
from embedder_heads.index.vector_index import IndexHit, VectorIndex
from embedder_heads.kinds import Floats
from embedder_heads.recommendation.more_like_this import more_like_this
from embedder_heads.recommendation.ranker import MANIFEST as RANKER_MANIFEST
from embedder_heads.recommendation.ranker import RankedItems, Ranker
from embedder_heads.recommendation.tags import tags_of
from embedder_heads.recommendation.two_tower import MANIFEST, ItemTable, TwoTower
from embedder_heads.recommendation.users import open_users, save_users

_FAISS = "recommender.faiss"
RANKED = 100
"""So many of the towers' best items are ranked again where there is a ranker, or as many as are asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRecommender:
    """What training made, to be published with an index.

    Attributes:
        tower: finds what comes next.
        ranker: ranks what the towers found; None leaves it as found.
        users: by id the items that each had seen, oldest first.
        traits: by id what is known of each, as tags.
    """

    tower: TwoTower
    ranker: Ranker | None = None
    users: Mapping[str, Sequence[str]] = field(default_factory=dict)
    traits: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Asker:
    vector: Floats  # what item vectors are multiplied with
    history: RankedItems | None  # what the ranker reads of the history; None without a ranker


class Recommender:
    """The two towers of an index's items, memory-mapped beside it, and the ranker behind them where there is one."""

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
        self.ranker = Ranker.load(folder) if (folder / RANKER_MANIFEST).exists() else None

    def seen_by(self, user_id: str) -> list[str]:
        """Return the ids that a user of the training file had seen, oldest first; raises UserNotFound."""
        if self.users is None:
            raise UserNotFound(f"user {user_id!r} is not known: this recommender was published without users")
        return [self._index.id_of(row) for row in self.users.rows_of(user_id).tolist()]

    def traits_of(self, user_id: str) -> tuple[str, ...]:
        """Return what the training file told of a user; nothing where it told nothing or does not know them."""
        return () if self.users is None else self.users.traits_of(user_id)

    def trained(self) -> TrainedRecommender:
        """Read back what was published."""
        users = {} if self.users is None else self.users.all_rows()
        return TrainedRecommender(
            self.tower,
            self.ranker,
            {user: [self._index.id_of(row) for row in rows.tolist()] for user, rows in users.items()},
            {user: traits for user in users if (traits := self.traits_of(user))},
        )

    def recommend(
        self,
        top_k: int,
        *,
        history_ids: Sequence[str] = (),
        history_vectors: Floats | None = None,
        traits: Sequence[str] = (),
        exclude: Sequence[str] = (),
        filters: Mapping[str, Filter] | None = None,
    ) -> list[IndexHit]:
        """Find what comes next.

        Arguments are as of `more_like_this`, with `traits`, what is known of the user, as tags; the score is a logit, not a cosine.
        """
        if top_k < 1:
            raise QueryInvalid(f"top_k={top_k}; it is at least 1")
        asker = self._asker(history_ids, history_vectors)
        allowed = self._index.allowed(filters or {}, [*history_ids, *exclude])
        selector = faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))
        wanted = min(top_k if self.ranker is None else max(top_k, RANKED), len(self._index))
        found = self._faiss.search(asker.vector[None], wanted, params=faiss.SearchParameters(sel=selector))
        rows, scores = found[1][0], found[0][0]
        rows, scores = rows[rows >= 0], scores[rows >= 0]
        if self.ranker is not None and len(rows):
            scores = self._ranked(self.ranker, asker, rows, scores, traits)
            order = np.argsort(-scores, kind="stable")
            rows, scores = rows[order], scores[order]
        return [
            self._index.hit(row, score)
            for row, score in zip(rows[:top_k].tolist(), scores[:top_k].tolist(), strict=True)
        ]

    def score(
        self,
        *,
        history_ids: Sequence[str],
        history_vectors: Floats | None,
        traits: Sequence[str] = (),
        rows: Sequence[int] = (),
        vectors: Floats | None = None,
    ) -> Floats:
        """Score candidates for a history, by the index's rows or, as new items, by their contents' vectors.

        Returns:
            (n,) float32 logits.
        """
        asker = self._asker(history_ids, history_vectors)
        if vectors is None:
            places = np.asarray(rows, np.int64)
            scores: Floats = self._faiss.reconstruct_batch(places) @ asker.vector
            return scores if self.ranker is None else self._ranked(self.ranker, asker, places, scores, traits)
        unnamed, untagged = [""] * len(vectors), [()] * len(vectors)
        scores = self.tower.table(vectors, unnamed, untagged).vectors @ asker.vector
        if self.ranker is None or asker.history is None:
            return scores
        return self.ranker.logits(self.ranker.items(vectors, unnamed, untagged), scores, asker.history, traits)

    def _ranked(
        self, ranker: Ranker, asker: _Asker, rows: npt.NDArray[np.int64], scores: Floats, traits: Sequence[str]
    ) -> Floats:
        assert asker.history is not None
        return ranker.logits(self._ranked_items(ranker, rows.tolist()), scores, asker.history, traits)

    def _ranked_items(self, ranker: Ranker, rows: Sequence[int]) -> RankedItems:
        """Compute what the ranker needs of some rows: so few of an index that it is not kept for all."""
        vectors, ids, metadata = self._index.items(rows)
        return ranker.items(vectors, ids, [tags_of(entry) for entry in metadata])

    def _asker(self, history_ids: Sequence[str], history_vectors: Floats | None) -> _Asker:
        rows = [row for row in self._index.rows_of(history_ids) if row >= 0]
        ranker = self.ranker
        parts = [(self._content[rows], self._seen[rows], self._attention[rows])] if rows else []
        ranked = [self._ranked_items(ranker, rows)] if rows and ranker is not None else []
        if history_vectors is not None and len(history_vectors):
            unnamed, untagged = [""] * len(history_vectors), [()] * len(history_vectors)
            table = self.tower.table(history_vectors, unnamed, untagged)
            parts.append((table.content, table.seen, table.attention))
            if ranker is not None:
                ranked.append(ranker.items(history_vectors, unnamed, untagged))
        if not parts:
            raise QueryInvalid("none of the history's ids is in the index, and there are no contents; give one that is")
        content, seen, attention = (np.concatenate(column) for column in zip(*parts, strict=True))
        vector = self.tower.history_vector(content, seen, attention)
        return _Asker(vector, RankedItems.join(ranked) if ranked else None)


def save_recommender(trained: TrainedRecommender, folder: Path, index: VectorIndex) -> None:
    """Write a trained recommender, what it knows of every item, and what users had seen, into the index's folder."""
    vectors, ids, metadata = index.items()
    table: ItemTable = trained.tower.table(vectors, ids, [tags_of(entry) for entry in metadata])
    searched = faiss.IndexFlatIP(table.vectors.shape[1])
    searched.add(table.vectors)
    faiss.write_index(searched, str(folder / _FAISS))
    for name, column in (("content", table.content), ("seen", table.seen), ("attention", table.attention)):
        np.save(folder / f"recommender.{name}.npy", column)
    trained.tower.save(folder)
    if trained.ranker is not None:
        trained.ranker.save(folder)
    if trained.users:
        save_users(folder, trained.users, trained.traits, {item_id: row for row, item_id in enumerate(ids)})


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


def traits_of(recommender: Recommender | None, user_id: str) -> tuple[str, ...]:
    """Return what is known of a user, as tags; nothing when none is named."""
    return () if recommender is None or not user_id else recommender.traits_of(user_id)


def recommend(
    index: VectorIndex,
    recommender: Recommender | None,
    top_k: int,
    *,
    history_ids: Sequence[str] = (),
    history_vectors: Floats | None = None,
    traits: Sequence[str] = (),
    exclude: Sequence[str] = (),
    filters: Mapping[str, Filter] | None = None,
) -> list[IndexHit]:
    """Recommend by the index's trained recommender, or by likeness where it has none; see `Recommender.recommend`."""
    if recommender is not None:
        return recommender.recommend(
            top_k,
            history_ids=history_ids,
            history_vectors=history_vectors,
            traits=traits,
            exclude=exclude,
            filters=filters,
        )
    return more_like_this(
        index, top_k, history_ids=history_ids, history_vectors=history_vectors, exclude=exclude, filters=filters
    )
