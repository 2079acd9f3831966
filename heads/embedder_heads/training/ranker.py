"""Trains the ranker behind the two towers, on lists that towers made which had not been told what came next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.recommendation.ranker import DENSE_FEATURES, ITEM_VECTORS, USER_VECTORS, Ranker
from embedder_heads.training.interactions import Catalogue, Rows
from embedder_heads.training.ranking_lists import ListMaker, Lists, ListShape, ndcg, popularity
from embedder_heads.training.schedule import one_cycle
from embedder_heads.training.two_tower import TwoTowerOptions, train_two_tower


@dataclass(frozen=True, slots=True)
class RankerOptions:
    """How to train.

    Attributes:
        width: length of every vector that takes part in products.
        axes: directions of content that are kept.
        inner: hidden units behind the dense features.
        top: hidden units behind the products.
        candidates: best items by the towers that make a list.
        places: places of a history, the last ones, that lists are made for; at most half of it.
        epochs: passes over the lists; the best one by the validation lists is kept.
        batch: lists a step.
        learning_rate: highest of a one-cycle schedule.
        new_share: share of candidates that a step treats as new.
        validation_share: share of the users whose lists validate.
        seed: of every draw.
    """

    width: int = 16
    axes: int = 64
    inner: int = 32
    top: int = 64
    candidates: int = 100
    places: int = 15
    epochs: int = 6
    batch: int = 128
    learning_rate: float = 1e-3
    new_share: float = 0.2
    validation_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Gain:
    """NDCG@10 on the validation lists, with the ranker and by the towers alone."""

    ranked: float
    towers: float


@dataclass(frozen=True, slots=True, eq=False)
class TrainedRanker:
    """A ranker, and what it was measured to bring where neither it nor the towers had learned what came next.

    Attributes:
        ranker: the ranker; among items that nobody had seen it keeps the towers' order.
        gain: what it was measured to bring.
        lists: validation lists behind that.
    """

    ranker: Ranker
    gain: Gain
    lists: int

    @property
    def is_better(self) -> bool:
        """Whether it ranks at least as well as the towers alone."""
        return self.gain.ranked >= self.gain.towers


def train_ranker(
    catalogue: Catalogue,
    histories: Sequence[Rows],
    *,
    traits: Sequence[Sequence[str]] = (),
    towers: TwoTowerOptions | None = None,
    options: RankerOptions | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> TrainedRanker:
    """Train a ranker.

    Towers learn from histories without their last places and make the lists of these, so that a list's logits are what they will be
    for an item that the towers have not been told. Some users' lists validate.

    Args:
        catalogue: the items.
        histories: per user, rows of the catalogue, oldest first.
        traits: per user, what is known of them, as tags; empty when nothing is.
        towers: how the towers train that make the lists; as those that will serve.
        options: how to train.
        on_progress: told how many of `steps(towers, options)` are done.
    Raises:
        TrainingDataInvalid: there are too few users with long enough histories.
    """
    options = options or RankerOptions()
    traits = traits or [()] * len(histories)
    learners, validators = _part_users(histories, options)
    earlier = [history[: len(history) - _places(history, options)] for history in histories]
    tower = train_two_tower(catalogue, earlier, options=towers, on_progress=on_progress)
    maker = ListMaker(catalogue, tower, earlier, axes=options.axes)
    longest = max(len(np.unique(history)) for history in histories)
    shape = ListShape(options.places, max(1, min(options.candidates, len(catalogue.ids) - longest)))
    # Only lists that hold what came next: a target put in among candidates that the towers like far better would teach distrust of them.
    lists = maker.lists(histories, learners, shape).with_target()
    if not len(lists):
        raise TrainingDataInvalid("no list of the towers holds what came next; there is nothing to learn ranking from")
    held_out = maker.lists(histories, validators, shape)
    done = steps(towers, options) - options.epochs
    on_progress(done)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        run = _Run(maker, lists, traits, options)
        best = run.measure(held_out)
        kept = run.state()
        for epoch in range(options.epochs):
            run.epoch()
            found = run.measure(held_out)
            if found.ranked > best.ranked:
                best, kept = found, run.state()
            on_progress(done + epoch + 1)
        ranker = run.result(kept, catalogue, histories)
    return TrainedRanker(ranker, best, lists=len(held_out))


def steps(towers: TwoTowerOptions | None, options: RankerOptions) -> int:
    """Return how many steps `train_ranker` tells of."""
    return (towers or TwoTowerOptions()).epochs + 1 + options.epochs


def _places(history: Rows, options: RankerOptions) -> int:
    """Return how many last places of a history lists are made for: at most half of it."""
    return min(options.places, len(history) // 2)


def _part_users(histories: Sequence[Rows], options: RankerOptions) -> tuple[list[int], list[int]]:
    long_enough = [user for user, history in enumerate(histories) if len(history) > 1]
    order = np.random.default_rng(options.seed).permutation(long_enough).tolist()
    held_out = max(1, round(len(order) * options.validation_share))
    if len(order) - held_out < 1:
        raise TrainingDataInvalid(f"{len(order)} users have two items or more; a ranker needs at least two such users")
    return order[held_out:], order[:held_out]


class _Run:
    def __init__(self, maker: ListMaker, lists: Lists, traits: Sequence[Sequence[str]], options: RankerOptions) -> None:
        self._maker, self._lists, self._options = maker, lists, options
        self._traits = sorted({trait for user in set(lists.user.tolist()) for trait in traits[user]}) or ["none"]
        column = {trait: number for number, trait in enumerate(self._traits)}
        self._user_traits = torch.zeros(len(traits), len(self._traits))
        for user, names in enumerate(traits):
            self._user_traits[user, [column[name] for name in names if name in column]] = 1.0
        flat = lists.dense.reshape(-1, lists.dense.shape[-1])
        self._dense_mean = torch.from_numpy(flat.mean(axis=0))
        self._dense_scale = torch.from_numpy(np.maximum(flat.std(axis=0), 1e-3))
        self._content = torch.from_numpy(maker.content)
        self._marks = torch.from_numpy(maker.marks)
        self._pairs = torch.tril_indices(1 + ITEM_VECTORS + USER_VECTORS, 1 + ITEM_VECTORS + USER_VECTORS, -1)
        items, axes = self._content.shape
        self._layers = _initial_layers((items, self._marks.shape[1], len(self._traits), axes), options)
        self._optimizer = torch.optim.AdamW(self._layers.values(), lr=options.learning_rate, weight_decay=0.01)
        total = options.epochs * -(-len(lists) // options.batch)
        self._schedule = one_cycle(self._optimizer, options.learning_rate, steps=total)

    def epoch(self) -> None:
        """Walk once over every list."""
        for rows in torch.split(torch.randperm(len(self._lists)), self._options.batch):
            batch = self._lists.take(rows.numpy())
            new = (torch.rand(batch.rows.shape) < self._options.new_share) | torch.from_numpy(batch.is_new)
            logits = self._logits(batch, new, learning=True)
            loss = functional.cross_entropy(logits, torch.from_numpy(batch.target))
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()

    def measure(self, lists: Lists) -> Gain:
        """Rank the validation lists."""
        with torch.no_grad():
            parts = [
                self._logits(part, torch.from_numpy(part.is_new), learning=False).numpy()
                for part in (lists.take(rows) for rows in np.array_split(np.arange(len(lists)), -(-len(lists) // 512)))
            ]
        return Gain(ndcg(np.concatenate(parts), lists), ndcg(lists.dense[..., 0], lists))

    def state(self) -> dict[str, Tensor]:
        """Return a copy of what is learned so far."""
        return {name: layer.detach().clone() for name, layer in self._layers.items()}

    def result(self, layers: dict[str, Tensor], catalogue: Catalogue, histories: Sequence[Rows]) -> Ranker:
        """Make the ranker of a state; only items with history keep vectors of their own."""
        counts = np.bincount(np.concatenate(histories), minlength=len(catalogue.ids))
        known = np.flatnonzero(counts)
        tensors = {name: layer.numpy() for name, layer in layers.items()}
        for name in ("item_own", "recent_own", "past_own"):
            tensors[name] = tensors[name][known]
        tensors |= {
            "mean": self._maker.mean,
            "axes": self._maker.axes,
            "seen_counts": popularity(counts)[known],
            "dense_mean": self._dense_mean.numpy(),
            "dense_scale": self._dense_scale.numpy(),
        }
        return Ranker(
            {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()},
            ids=[catalogue.ids[row] for row in known],
            tags=self._maker.tags,
            traits=self._traits,
        )

    def _logits(self, batch: Lists, new: Tensor, *, learning: bool) -> Tensor:
        p, dropout = self._layers, 0.2 if learning else 0.0
        tower = torch.where(new, torch.from_numpy(batch.new_logits), torch.from_numpy(batch.dense[..., 0]))
        dense = ((torch.from_numpy(batch.dense) - self._dense_mean) / self._dense_scale).clamp(-5, 5)
        hidden = functional.relu(functional.linear(dense, p["dense_in"], p["dense_in_bias"]))
        dense_vector = functional.linear(hidden, p["dense_out"], p["dense_out_bias"])  # (n, c, width)
        rows = torch.from_numpy(batch.rows)
        own = functional.dropout(p["item_own"][rows], dropout)
        items = torch.stack(
            [own, (self._marks @ p["item_tags"])[rows], (self._content @ p["item_content"])[rows]], dim=2
        )
        user = self._user(batch, dropout)[:, None].expand(-1, rows.shape[1], -1, -1)
        vectors = torch.cat([dense_vector[:, :, None], items, user], dim=2)  # (n, c, 10, width)
        products = (vectors @ vectors.transpose(2, 3))[:, :, self._pairs[0], self._pairs[1]]
        top = functional.dropout(torch.cat([dense_vector, products], dim=2), dropout)
        top = functional.relu(functional.linear(top, p["top_in"], p["top_in_bias"]))
        added = torch.where(new, p["new_logit"], functional.linear(top, p["top_out"])[..., 0])
        logits: Tensor = p["logit_scale"] * tower + added
        return logits

    def _user(self, batch: Lists, dropout: float) -> Tensor:
        p = self._layers
        recent, past, starts = (torch.from_numpy(rows) for rows in (batch.recent, batch.past, batch.past_starts))
        table = torch.cat([p["recent_own"], torch.zeros(1, self._options.width)])  # the last row stands for no item
        count = (recent < len(p["recent_own"])).sum(dim=1, keepdim=True)
        parts = [
            functional.dropout(table[recent].sum(dim=1) / count, dropout),
            functional.dropout(functional.embedding_bag(past, p["past_own"], starts, mode="mean"), dropout),
            torch.from_numpy(batch.history_marks) @ p["past_tags"],
            torch.from_numpy(batch.history_content) @ p["past_content"],
            torch.from_numpy(batch.recent_content) @ p["recent_content"],
            functional.dropout(self._user_traits[torch.from_numpy(batch.user)] @ p["traits"], dropout),
        ]
        return torch.stack(parts, dim=1)  # (n, 6, width)


def _initial_layers(sizes: tuple[int, int, int, int], options: RankerOptions) -> dict[str, Tensor]:
    items, tags, traits, axes = sizes
    width, inner = options.width, options.inner
    vectors = 1 + ITEM_VECTORS + USER_VECTORS
    top = width + vectors * (vectors - 1) // 2

    def small(*shape: int) -> Tensor:
        return torch.randn(*shape) * 0.1

    def layer(outputs: int, inputs: int) -> Tensor:
        return torch.randn(outputs, inputs) / math.sqrt(inputs)

    layers = {
        # Zeros, so that an item that no list showed says nothing; and no logit at first, so that it starts as the towers rank.
        "item_own": torch.zeros(items, width),
        "item_tags": small(tags, width),
        "item_content": layer(axes, width),
        "recent_own": small(items, width),
        "past_own": small(items, width),
        "past_tags": small(tags, width),
        "past_content": layer(axes, width),
        "recent_content": layer(axes, width),
        "traits": small(traits, width),
        "dense_in": layer(inner, len(DENSE_FEATURES)),
        "dense_in_bias": torch.zeros(inner),
        "dense_out": layer(width, inner),
        "dense_out_bias": torch.zeros(width),
        "top_in": layer(options.top, top),
        "top_in_bias": torch.zeros(options.top),
        "top_out": torch.zeros(1, options.top),
        "logit_scale": torch.ones(1),
        "new_logit": torch.zeros(1),
    }
    return {name: tensor.requires_grad_() for name, tensor in layers.items()}
