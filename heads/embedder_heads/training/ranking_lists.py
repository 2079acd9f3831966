"""Lists to rank: for places of users' histories, the towers' best candidates with all that a ranker may look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

from embedder_heads.kinds import Floats
from embedder_heads.recommendation.ranker import RECENT, RankedItems, dense_features, project, tag_shares
from embedder_heads.recommendation.two_tower import ItemTable, TwoTower
from embedder_heads.training.interactions import Catalogue, Rows, common_tags

TOP = 10
_DISCOUNTS = 1.0 / np.log2(np.arange(2, TOP + 2))


@dataclass(frozen=True, slots=True)
class ListShape:
    """Which lists to make.

    Attributes:
        places: places of each history, the last ones; at most half of it.
        candidates: length of a list.
    """

    places: int
    candidates: int


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """n lists of c candidates.

    Attributes:
        user: (n,) int64, whose list it is.
        rows: (n, c) int64, the candidates' rows of the catalogue.
        target: (n,) int64, the place of what came next; c when the towers did not bring it.
        dense: (n, c, dense) float32; see `DENSE_FEATURES`.
        new_logits: (n, c) float32, the towers' logits if the candidates were new.
        is_new: (n, c) bool, candidates that the towers had no history of.
        recent: (n, RECENT) int64 rows, newest first; the catalogue's length where there is none.
        past: rows of every history, one after the other, oldest first.
        past_starts: (n,) int64, where each history starts in `past`.
        history_content: (n, axes) float32, mean content of the history.
        recent_content: (n, axes) float32, of its recent items.
        history_marks: (n, tags) float32, mean tags of the history.
    """

    user: Rows
    rows: Rows
    target: Rows
    dense: Floats
    new_logits: Floats
    is_new: npt.NDArray[np.bool_]
    recent: Rows
    past: Rows
    past_starts: Rows
    history_content: Floats
    recent_content: Floats
    history_marks: Floats

    def __len__(self) -> int:
        return len(self.user)

    def with_target(self) -> Lists:
        """Return the lists that hold what came next."""
        return self.take(np.flatnonzero(self.target < self.rows.shape[1]))

    def take(self, chosen: npt.NDArray[np.integer]) -> Lists:
        """Return some of the lists."""
        ends = np.append(self.past_starts[1:], len(self.past))
        pasts = [self.past[self.past_starts[row] : ends[row]] for row in chosen]
        others = {
            field.name: getattr(self, field.name)[chosen]
            for field in fields(self)
            if field.name not in ("past", "past_starts")
        }
        return Lists(**others, past=np.concatenate([self.past[:0], *pasts]), past_starts=_starts(pasts))

    @staticmethod
    def join(parts: Sequence[Lists]) -> Lists:
        """Put lists one behind the other."""
        joined = {field.name: np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(Lists)}
        shifts = np.cumsum([0, *(len(part.past) for part in parts[:-1])])
        starts = [part.past_starts + shift for part, shift in zip(parts, shifts, strict=True)]
        return Lists(**{**joined, "past_starts": np.concatenate(starts)})


class ListMaker:
    """Makes lists by one recommender's towers.

    Attributes:
        content: (items, axes) float32, the catalogue's contents, centred and projected.
        marks: (items, tags) float32, each item's tags with a sum of 1.
        mean: (dim,) what was taken off the contents.
        axes: (axes, dim) what they were projected on.
        tags: names of the tags.
    """

    def __init__(self, catalogue: Catalogue, tower: TwoTower, learned_from: Sequence[Rows], *, axes: int) -> None:
        """Read the catalogue through the towers.

        Args:
            catalogue: the items.
            tower: what makes the lists.
            learned_from: the histories that it learned from.
            axes: directions of content to keep; the same ones whatever the towers learned from.
        """
        self._tower = tower
        self._table = tower.table(catalogue.vectors, catalogue.ids, catalogue.tags)
        self._as_new: ItemTable = tower.table(catalogue.vectors, [""] * len(catalogue.ids), catalogue.tags)
        self.mean: Floats = catalogue.vectors.mean(axis=0)
        centred = catalogue.vectors - self.mean
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
        self.axes: Floats = np.linalg.svd(centred, full_matrices=False)[2][: min(axes, *centred.shape)]
        self.content = project(catalogue.vectors, self.mean, self.axes)
        self.tags = common_tags(catalogue, np.arange(len(catalogue.ids)))
        self.marks = tag_shares(catalogue.tags, {tag: column for column, tag in enumerate(self.tags)})
        counts = np.bincount(np.concatenate(learned_from), minlength=len(catalogue.ids))
        empty = np.zeros((len(counts), 0, 0), np.float32)
        self._items = RankedItems(empty, empty, self.content, self.marks, popularity(counts), counts == 0)

    def lists(self, histories: Sequence[Rows], users: Sequence[int], shape: ListShape) -> Lists:
        """Make the lists of some users.

        Args:
            histories: per user, rows of the catalogue, oldest first.
            users: whose lists to make.
            shape: which ones.
        """
        parts = []
        for user in users:
            history = histories[user]
            ends = range(len(history) - min(shape.places, len(history) // 2), len(history))
            parts += [self._list(user, history[:end], int(history[end]), shape) for end in ends]
        return Lists.join(parts)

    def _list(self, user: int, history: Rows, target: int, shape: ListShape) -> Lists:
        table = self._table
        vector = self._tower.history_vector(table.content[history], table.seen[history], table.attention[history])
        known, new = table.vectors @ vector, self._as_new.vectors @ vector
        order = known.copy()
        order[history] = -np.inf
        count = shape.candidates
        rows = np.argpartition(-order, count - 1)[:count]
        items, past = self._items.take(rows), self._items.take(history)
        recent = np.full(RECENT, len(order))
        latest = history[::-1][:RECENT]
        recent[: len(latest)] = latest
        place = np.flatnonzero(rows == target)
        return Lists(
            user=np.array([user]),
            rows=rows[None],
            target=place[:1] if len(place) else np.array([count]),
            dense=dense_features(items, known[rows], past)[None],
            new_logits=new[rows][None],
            is_new=items.is_new[None],
            recent=recent[None],
            past=history,
            past_starts=np.array([0]),
            history_content=past.content.mean(axis=0)[None],
            recent_content=past.content[-RECENT:].mean(axis=0)[None],
            history_marks=past.marks.mean(axis=0)[None],
        )


def popularity(counts: npt.NDArray[np.integer]) -> Floats:
    """Return the log of 1 and of how often items were seen beside the mean item, which does not grow with the users."""
    logs: Floats = np.log1p(counts * (len(counts) / max(int(counts.sum()), 1))).astype(np.float32)
    return logs


def ndcg(scores: Floats, lists: Lists) -> float:
    """Return the mean NDCG@10 of (n, c) scores, where one item of a list is right."""
    own = np.take_along_axis(scores, np.minimum(lists.target, scores.shape[1] - 1)[:, None], axis=1)
    rank = (scores > own).sum(axis=1)
    gains = np.where(rank < TOP, _DISCOUNTS[np.minimum(rank, TOP - 1)], 0.0)
    return float(np.where(lists.target < scores.shape[1], gains, 0.0).mean())


def _starts(pasts: Sequence[Rows]) -> Rows:
    return np.cumsum([0, *(len(past) for past in pasts)])[: len(pasts)]
