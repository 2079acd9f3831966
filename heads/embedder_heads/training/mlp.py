"""Learns perceptron heads: one hidden layer, mixed examples, stopped early on a validation part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from embedder_heads.kinds import Floats, HeadKind, Task
from embedder_heads.training.calibration import fit_temperature
from embedder_heads.training.examples import Examples
from embedder_heads.training.folds import possible_folds, split_folds
from embedder_heads.training.learner import Learned
from embedder_heads.training.losses import mean_loss

_BATCH = 256
_LABEL_SMOOTHING = 0.05
_DROPOUT = 0.3


@dataclass(frozen=True, slots=True)
class MlpLearner:
    """A small perceptron.

    Attributes:
        hidden: units of the hidden layer.
        max_epochs: passes over the examples at most.
        patience: passes without a better validation loss before it stops.
        learning_rate: of AdamW.
        weight_decay: of AdamW.

    Source: Zhang et al. 2018, section 2 (mixup); Loshchilov & Hutter 2019 (AdamW).
    """

    hidden: int = 256
    max_epochs: int = 60
    patience: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 1e-2

    settings: ClassVar[int] = 1

    def learn(self, examples: Examples, weights: Floats, *, settings: Sequence[int], seed: int) -> list[Learned]:
        """Train on four fifths until the validation fifth no longer gains; the best epoch's weights are kept."""
        folds = possible_folds(examples, 5)
        every = np.arange(len(examples))
        rows, held_out = next(iter(split_folds(examples, folds, seed=seed))) if folds >= 2 else (every, every)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            walk = _Walk(self, examples, weights, rows, held_out)
            return [walk.run()] * len(settings)


class _Walk:
    """One training run."""

    def __init__(
        self, settings: MlpLearner, examples: Examples, weights: Floats, rows: object, held_out: object
    ) -> None:
        dim, labels = examples.vectors.shape[1], len(examples.labels)
        self._settings = settings
        self._task = examples.task
        self._scale = dim**0.5  # unit vectors to entries of about 1, folded back into the weights at the end
        vectors = torch.from_numpy(examples.vectors) * self._scale
        # Regression learns standardized targets; the last layer undoes it.
        self._mean, self._spread = np.zeros(labels, np.float32), np.ones(labels, np.float32)
        if self._task is Task.REGRESSION:
            self._mean, spread = examples.targets.mean(axis=0), examples.targets.std(axis=0)
            self._spread = np.where(spread > 0, spread, 1.0).astype(np.float32)
        targets = torch.from_numpy((examples.targets - self._mean) / self._spread)
        row_weights = torch.from_numpy(weights)
        self._train = (vectors[rows], targets[rows], row_weights[rows])  # type: ignore[index]
        self._held_out = (vectors[held_out], targets[held_out], row_weights[held_out])  # type: ignore[index]
        self._layers = [
            torch.randn(settings.hidden, dim) * (2.0 / dim) ** 0.5,
            torch.zeros(settings.hidden),
            torch.randn(labels, settings.hidden) * settings.hidden**-0.5 * 0.1,
            torch.zeros(labels),
        ]

    def run(self) -> Learned:
        layers = [layer.requires_grad_() for layer in self._layers]
        optimizer = torch.optim.AdamW(layers, lr=self._settings.learning_rate, weight_decay=self._settings.weight_decay)
        best, best_loss, best_epoch = [layer.detach().clone() for layer in layers], float("inf"), 0
        curve = []
        for epoch in range(1, self._settings.max_epochs + 1):
            training_loss = self._epoch(layers, optimizer)
            loss = self._validation_loss(layers)
            curve.append((epoch, training_loss, loss))
            if loss < best_loss - 1e-4:
                best, best_loss, best_epoch = [layer.detach().clone() for layer in layers], loss, epoch
            elif epoch - best_epoch >= self._settings.patience:
                break
        hidden_weight, hidden_bias, weight, bias = (layer.numpy() for layer in best)
        tensors = {
            "hidden_weight": hidden_weight * np.float32(self._scale),
            "hidden_bias": hidden_bias,
            "weight": weight * self._spread[:, None],
            "bias": bias * self._spread + self._mean,
        }
        notes = {"hidden": self._settings.hidden, "epochs": best_epoch, "validation_loss": best_loss}
        return Learned(HeadKind.MLP, tensors, notes, tuple(curve))

    def _epoch(self, layers: list[Tensor], optimizer: torch.optim.Optimizer) -> float:
        vectors, targets, weights = self._train
        total = 0.0
        for rows in torch.split(torch.randperm(len(vectors)), _BATCH):
            partners = rows[torch.randperm(len(rows))]
            share = torch.rand(len(rows), 1)  # Beta(1, 1)
            mixed = share * vectors[rows] + (1 - share) * vectors[partners]
            goal = share * targets[rows] + (1 - share) * targets[partners]
            weight = share[:, 0] * weights[rows] + (1 - share[:, 0]) * weights[partners]
            loss = self._loss(self._forward(layers, mixed, _DROPOUT), goal, weight, smooth=_LABEL_SMOOTHING)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        return total / len(vectors)

    def _validation_loss(self, layers: list[Tensor]) -> float:
        """Return the loss at its best temperature, since mixed examples make a head too shy, which calibration mends."""
        vectors, targets, weights = self._held_out
        with torch.no_grad():
            logits = self._forward(layers, vectors, 0.0).numpy()
        temperature = fit_temperature(logits, targets.numpy(), self._task, weights.numpy())
        logits /= np.float32(temperature)
        return mean_loss(logits, targets.numpy(), self._task, weights.numpy())

    def _forward(self, layers: list[Tensor], vectors: Tensor, dropout: float) -> Tensor:
        hidden = torch.relu(functional.linear(vectors, layers[0], layers[1]))
        return functional.linear(functional.dropout(hidden, dropout), layers[2], layers[3])

    def _loss(self, logits: Tensor, targets: Tensor, weights: Tensor, *, smooth: float = 0.0) -> Tensor:
        if self._task is Task.SINGLE_LABEL:
            goals = targets * (1 - smooth) + smooth / targets.shape[1]
            losses = -(goals * functional.log_softmax(logits, dim=1)).sum(dim=1)
        elif self._task is Task.MULTI_LABEL:
            losses = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none").mean(dim=1)
        else:
            losses = (logits - targets).square().mean(dim=1)
        return (losses * weights).mean()
