"""Trains the two-tower recommender: sampled softmax over what came next, and over what belongs together for new items."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.kinds import Floats
from embedder_heads.recommendation.two_tower import TwoTower
from embedder_heads.training.interactions import Catalogue, Rows, common_tags
from embedder_heads.training.schedule import one_cycle

_READS = 4
_START_DECAYS = (0.5, 0.1, 0.02, 0.0)  # how quickly each attention query forgets, before training
_TAG_SCALE = 0.3


@dataclass(frozen=True, slots=True)
class TwoTowerOptions:
    """How to train.

    Attributes:
        width: length of an item's own vector.
        axes: directions of content that are kept.
        side: length of what new items are given beside their content.
        recent: latest items of a history that attention reads; the whole history counts by its mean.
        epochs: passes over the interactions.
        batch: interactions a step; each is the others' negative.
        random_negatives: further negatives a step, drawn evenly from the catalogue.
        learning_rate: highest of a one-cycle schedule.
        new_share: share of items that a step treats as new.
        seed: of every draw.
    """

    width: int = 64
    axes: int = 64
    side: int = 32
    recent: int = 50
    epochs: int = 4
    batch: int = 512
    random_negatives: int = 512
    learning_rate: float = 3e-3
    new_share: float = 0.2
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class _Steps:
    """Training examples: a history, its mean content, and the item to tell."""

    recent: Tensor  # (n, recent) rows, newest first; the catalogue's length where there is none
    profile: Tensor  # (n, axes)
    target: Tensor  # (n,)

    def take(self, rows: Tensor) -> _Steps:
        return _Steps(self.recent[rows], self.profile[rows], self.target[rows])


def train_two_tower(
    catalogue: Catalogue,
    histories: Sequence[Rows],
    *,
    options: TwoTowerOptions | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> TwoTower:
    """Train a recommender.

    Two kinds of examples: the next item after each prefix of a history, with logQ-corrected negatives, and any one item of a
    history against the rest, in which every candidate counts as new, so that content and tags learn to speak for items that nobody
    has seen.

    Args:
        catalogue: the items.
        histories: per user, rows of the catalogue, oldest first.
        options: how to train.
        on_progress: told how many passes are done.
    Returns:
        The recommender; items in no history are left to content and tags.
    Raises:
        TrainingDataInvalid: no history holds two items.
    Source: Yi et al. 2019 (logQ correction); Yang et al. 2020 (mixed negatives).
    """
    options = options or TwoTowerOptions()
    histories = [history for history in histories if len(history) > 1]
    if not histories:
        raise TrainingDataInvalid("no user has two items: there is nothing that follows something")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        run = _Run(catalogue, histories, options)
        for epoch in range(options.epochs):
            run.epoch()
            on_progress(epoch + 1)
        return run.result()


class _Run:
    def __init__(self, catalogue: Catalogue, histories: Sequence[Rows], options: TwoTowerOptions) -> None:
        self._catalogue, self._options = catalogue, options
        counts = np.bincount(np.concatenate(histories), minlength=len(catalogue.ids))
        self._known: npt.NDArray[np.intp] = np.flatnonzero(counts)
        self._mean = catalogue.vectors[self._known].mean(axis=0)
        centred = catalogue.vectors - self._mean
        centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
        axes = min(options.axes, *centred[self._known].shape)
        self._axes = np.linalg.svd(centred[self._known], full_matrices=False)[2][:axes]
        content = (centred @ self._axes.T).astype(np.float32)
        self._content = torch.from_numpy(content)
        self._tags, marks = _tag_marks(catalogue, self._known)
        self._marks = torch.from_numpy(marks * np.float32(_TAG_SCALE))
        self._known_rows = torch.from_numpy(self._known)
        shares = torch.from_numpy(counts + 1.0).float()
        self._log_share = shares.log() - shares.sum().log()
        generator = np.random.default_rng(options.seed)
        self._next = _next_steps(histories, content, options.recent)
        self._any = _any_steps(histories, content, options.recent, generator)
        self._layers = _initial_layers(len(catalogue.ids), marks.shape[1], axes, options)
        self._optimizer = torch.optim.AdamW(self._layers.values(), lr=options.learning_rate, weight_decay=0.01)
        steps = options.epochs * -(-len(self._next.target) // options.batch)
        self._schedule = one_cycle(self._optimizer, options.learning_rate, steps=steps)

    def epoch(self) -> None:
        """Walk once over every prefix of every history."""
        options = self._options
        others = torch.randperm(len(self._any.target))
        half = max(options.batch // 2, 1)
        for number, rows in enumerate(torch.split(torch.randperm(len(self._next.target)), options.batch)):
            start = number * half % max(len(others) - half, 1)
            loss = self._loss(self._next.take(rows), new_share=options.new_share)
            loss = loss + 0.5 * self._loss(self._any.take(others[start : start + half]), new_share=1.0)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self._schedule.step()

    def result(self) -> TwoTower:
        """Return what was learned; only items with history keep vectors of their own."""
        t = {name: layer.detach().numpy() for name, layer in self._layers.items()}
        scale = np.float32(_TAG_SCALE)
        tensors = {
            **t,
            "mean": self._mean,
            "axes": self._axes,
            "item_own": t["item_own"][self._known],
            "item_bias": t["item_bias"][self._known],
            "seen_own": t["seen_own"][self._known],
            **{name: t[name] * scale for name in ("item_tags", "new_tags", "new_bias_tags", "seen_tags")},
        }
        ids = [self._catalogue.ids[row] for row in self._known]
        return TwoTower({n: np.ascontiguousarray(v, np.float32) for n, v in tensors.items()}, ids=ids, tags=self._tags)

    def _loss(self, steps: _Steps, *, new_share: float) -> Tensor:
        drawn = torch.randint(0, len(self._known_rows), (self._options.random_negatives,))
        candidates = torch.cat([steps.target, self._known_rows[drawn]])
        count, rows = len(steps.target), torch.arange(len(steps.target))
        logits = self._users(steps) @ self._items(candidates, new_share).T  # (n, candidates)
        # A candidate is drawn as another's target or evenly: its logit is lowered by how likely that was.
        evenly = float(np.log(max(len(drawn), 1) / len(self._known_rows)))
        drawn_log = torch.logaddexp(self._log_share[candidates] + float(np.log(count)), torch.tensor(evenly))
        logits = logits - drawn_log
        same = candidates[None] == steps.target[:, None]
        same[rows, rows] = False
        loss: Tensor = functional.cross_entropy(logits.masked_fill(same, -1e9), rows)
        return loss

    def _items(self, rows: Tensor, new_share: float) -> Tensor:
        p, content, marks = self._layers, self._content[rows], self._marks[rows]
        known = (torch.rand(len(rows), 1) >= new_share).float()
        block = p["item_own"][rows] + content @ p["item_content"] + marks @ p["item_tags"]
        side = torch.cat([content, content @ p["new_content"] + marks @ p["new_tags"]], dim=1)
        new_bias = content @ p["new_bias_content"] + marks @ p["new_bias_tags"] + p["new_bias"]
        bias = p["item_bias"][rows][:, None] * known + new_bias[:, None] * (1 - known)
        return torch.cat([block * known, side * (1 - known), bias], dim=1)

    def _users(self, steps: _Steps) -> Tensor:
        p, content = self._layers, self._content
        seen = functional.dropout(p["seen_own"] + content @ p["seen_content"] + self._marks @ p["seen_tags"], 0.3)
        reads = torch.tanh(seen @ p["key"].T + p["key_bias"]) @ p["queries"].T  # (items, reads)
        empty = steps.recent == len(content)
        rows = steps.recent.clamp(max=len(content) - 1)
        weights = reads[rows].transpose(1, 2) + p["positions"]  # (n, reads, recent)
        weights = weights.masked_fill(empty[:, None], -1e9).softmax(dim=2)
        pooled = [_weighted_sum(seen, rows, weights[:, read]) for read in range(_READS)]
        recent = _weighted_sum(content, rows, torch.einsum("nrl,r->nl", weights, p["mix"].softmax(0)))
        user = _dense(torch.cat([*pooled, steps.profile], dim=1), p, "user")
        side = _dense(torch.cat([recent, steps.profile], dim=1), p, "side")
        match = recent @ p["recent_match"] + steps.profile @ p["profile_match"]
        return torch.cat([user, match, side, torch.ones(len(rows), 1)], dim=1)


def _weighted_sum(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    summed: Tensor = functional.embedding_bag(rows, table, mode="sum", per_sample_weights=weights.contiguous())
    return summed


def _dense(inputs: Tensor, layers: dict[str, Tensor], name: str) -> Tensor:
    hidden = functional.relu(functional.linear(inputs, layers[f"{name}_in"], layers[f"{name}_in_bias"]))
    return functional.linear(functional.dropout(hidden, 0.3), layers[f"{name}_out"], layers[f"{name}_out_bias"])


def _initial_layers(items: int, tags: int, axes: int, options: TwoTowerOptions) -> dict[str, Tensor]:
    width, side = options.width, options.side
    user_in, side_in = _READS * width + axes, 2 * axes

    def small(*shape: int) -> Tensor:
        return torch.randn(*shape) * 0.05

    def layer(outputs: int, inputs: int) -> Tensor:
        return torch.randn(outputs, inputs) / math.sqrt(inputs)

    ages = torch.arange(options.recent, dtype=torch.float32)
    layers = {
        "item_own": small(items, width),
        "item_bias": torch.zeros(items),
        "item_content": small(axes, width),
        "item_tags": small(tags, width),
        "new_content": small(axes, side),
        "new_tags": small(tags, side),
        "new_bias_content": torch.zeros(axes),
        "new_bias_tags": torch.zeros(tags),
        "new_bias": torch.zeros(1),
        "seen_own": small(items, width),
        "seen_content": small(axes, width),
        "seen_tags": small(tags, width),
        "key": layer(width, width),
        "key_bias": torch.zeros(width),
        "queries": 0.1 * torch.randn(_READS, width),
        "positions": torch.stack([-decay * ages for decay in _START_DECAYS]),
        "mix": torch.zeros(_READS),
        # It starts as four times the cosine to the centred history, mostly the whole of it, which is already a fair guess.
        "recent_match": 0.8 * torch.eye(axes),
        "profile_match": 3.2 * torch.eye(axes),
        "user_in": layer(2 * width, user_in),
        "user_in_bias": torch.zeros(2 * width),
        "user_out": layer(width, 2 * width),
        "user_out_bias": torch.zeros(width),
        "side_in": layer(2 * side, side_in),
        "side_in_bias": torch.zeros(2 * side),
        "side_out": layer(side, 2 * side),
        "side_out_bias": torch.zeros(side),
    }
    return {name: tensor.requires_grad_() for name, tensor in layers.items()}


def _tag_marks(catalogue: Catalogue, known: npt.NDArray[np.intp]) -> tuple[list[str], Floats]:
    tags = common_tags(catalogue, known)
    column = {tag: number for number, tag in enumerate(tags)}
    marks = np.zeros((len(catalogue.ids), len(tags)), np.float32)
    for row, names in enumerate(catalogue.tags):
        marks[row, [column[name] for name in names if name in column]] = 1.0
    return tags, marks


def _next_steps(histories: Sequence[Rows], content: Floats, recent: int) -> _Steps:
    """Every prefix of every history, and the item that came next."""
    pairs: list[tuple[Rows, int]] = []
    profiles = []
    for history in histories:
        ends = np.arange(1, len(history))
        profiles.append(np.cumsum(content[history[:-1]], axis=0) / ends[:, None])
        pairs.extend((history[:end], int(history[end])) for end in ends)
    return _steps(pairs, np.concatenate(profiles), recent, nothing=len(content))


def _any_steps(histories: Sequence[Rows], content: Floats, recent: int, generator: np.random.Generator) -> _Steps:
    """Every second item of every history on average, and the rest of its history."""
    pairs: list[tuple[Rows, int]] = []
    profiles = []
    for history in histories:
        places = generator.integers(0, len(history), -(-len(history) // 2))
        profiles.append((content[history].sum(axis=0) - content[history[places]]) / (len(history) - 1))
        pairs.extend((np.delete(history, place), int(history[place])) for place in places)
    return _steps(pairs, np.concatenate(profiles), recent, nothing=len(content))


def _steps(pairs: Sequence[tuple[Rows, int]], profiles: Floats, recent: int, *, nothing: int) -> _Steps:
    rows = np.full((len(pairs), recent), nothing, np.int64)
    for number, (history, _) in enumerate(pairs):
        latest = history[::-1][:recent]
        rows[number, : len(latest)] = latest
    target = torch.tensor([target for _, target in pairs])
    return _Steps(torch.from_numpy(rows), torch.from_numpy(profiles.astype(np.float32)), target)
