"""Learns an attention fusion: which fields of a post say what it is about."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.fusion.attention import AttentionFusion
from embedder_heads.fusion.fusion_file import make_fusion
from embedder_heads.fusion.fusion_manifest import FusionManifest
from embedder_heads.kinds import Floats
from embedder_heads.metric import Metric
from embedder_heads.training.intervals import wilson

_BATCH = 128
_MIN_POSTS = 20
_FIELD_DROPOUT = 0.2
_NAME_DROPOUT = 0.1
_CLASSIFIER_SCALE = 10.0  # of cosines, as logits


@dataclass(frozen=True, slots=True)
class FusionOptions:
    """How a fusion is trained.

    Attributes:
        width: length of the queries and keys.
        max_epochs: passes over the posts at most.
        patience: passes without a better validation loss before it stops.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        seed: of splits, dropout and initial weights.
    """

    width: int = 32
    max_epochs: int = 100
    patience: int = 10
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    seed: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class PostExamples:
    """Labelled posts as arrays.

    Attributes:
        vectors: (n, f, dim) float32, unit vectors of the fields; zero where a post lacks one.
        present: (n, f) bool.
        classes: (n,) int64, columns of `labels`.
        names: the f field names.
        labels: what the classes are called.
    """

    vectors: Floats
    present: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.int64]
    names: tuple[str, ...]
    labels: tuple[str, ...]

    def digest(self) -> str:
        """Name this training set: 64 hex digits."""
        digest = hashlib.sha256("\0".join((*self.names, "", *self.labels)).encode())
        for array in (self.vectors, self.present, self.classes):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def make_post_examples(fields: Sequence[Mapping[str, Floats]], given: Sequence[str]) -> PostExamples:
    """Lay posts out as arrays.

    Args:
        fields: each post's field vectors, (dim,) float32, by name; one at least.
        given: their labels.
    Raises:
        TrainingDataInvalid: there are too few posts or labels.
    """
    labels = tuple(sorted(set(given)))
    if len(given) < _MIN_POSTS or len(labels) < 2:
        raise TrainingDataInvalid(
            f"{len(given)} posts of {len(labels)} labels; a fusion learns from {_MIN_POSTS} posts of 2 labels at least"
        )
    names = tuple(sorted({name for post in fields for name in post}))
    column = {name: number for number, name in enumerate(names)}
    dim = len(next(iter(fields[0].values())))
    vectors = np.zeros((len(fields), len(names), dim), np.float32)
    present = np.zeros((len(fields), len(names)), np.bool_)
    for row, post in enumerate(fields):
        for name, vector in post.items():
            vectors[row, column[name]] = vector
            present[row, column[name]] = True
    classes = np.array([labels.index(label) for label in given], np.int64)
    return PostExamples(vectors, present, classes, names, labels)


def train_fusion(
    examples: PostExamples,
    *,
    name: str,
    space_digest: bytes,
    options: FusionOptions | None = None,
    on_progress: Callable[[int], None] = lambda epoch: None,
) -> AttentionFusion:
    """Train a fusion together with a classifier that is thrown away, and measure it on a fifth that neither has seen.

    Three fifths are learned from, one says when to stop, one is measured on, beside the plain mean under a classifier that learned
    likewise. Fields are dropped at random, so that posts that lack some are fused well too; so are names, for those never seen.

    Args:
        examples: the posts.
        name: name of the fusion.
        space_digest: the vectors' space, 32 bytes.
        options: how.
        on_progress: told how many epochs are done.
    """
    options = options or FusionOptions()
    order = np.random.default_rng(options.seed).permutation(len(examples.classes))
    parts = np.array_split(order, 5)
    train, validation, held_out = np.concatenate(parts[:3]), parts[3], parts[4]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        walk = _Walk(examples, options, attends=True)
        epochs = walk.run(train, validation, on_progress)
        plain = _Walk(examples, options, attends=False)
        plain.run(train, validation, lambda epoch: None)
    manifest = FusionManifest(
        name=name,
        space_digest=space_digest.hex(),
        dim=examples.vectors.shape[2],
        fields=examples.names,
        data_digest=examples.digest(),
        metrics={
            "accuracy": _accuracy(walk, held_out, "attention, on a fifth held out, Wilson"),
            "accuracy_mean": _accuracy(plain, held_out, "plain mean, on the same fifth, Wilson"),
        },
        training={"posts": len(train), "width": options.width, "epochs": epochs, "seed": options.seed},
    )
    return make_fusion(manifest, walk.tensors())


class _Walk:
    """One training run: an attention, or the plain mean, under a cosine classifier."""

    def __init__(self, examples: PostExamples, options: FusionOptions, *, attends: bool) -> None:
        fields, dim, width = len(examples.names), examples.vectors.shape[2], options.width
        self._options = options
        self._attends = attends
        self._vectors = torch.from_numpy(examples.vectors)
        self._present = torch.from_numpy(examples.present)
        self._classes = torch.from_numpy(examples.classes)
        self._parameters = {
            "query": torch.zeros(width),
            "query_of_mean": torch.randn(width, dim) * dim**-0.5,
            "key_of_vector": torch.randn(width, dim) * dim**-0.5,
            "key_of_name": torch.randn(fields + 1, width) * 0.1,
            "classifier": torch.randn(len(examples.labels), dim) * dim**-0.5,
        }

    def run(
        self, train: npt.NDArray[np.intp], validation: npt.NDArray[np.intp], on_progress: Callable[[int], None]
    ) -> int:
        """Train; returns the epoch whose weights are kept."""
        parameters = [parameter.requires_grad_() for parameter in self._parameters.values()]
        optimizer = torch.optim.AdamW(
            parameters, lr=self._options.learning_rate, weight_decay=self._options.weight_decay
        )
        best, best_loss, best_epoch = self._snapshot(), float("inf"), 0
        rows = torch.from_numpy(train)
        for epoch in range(1, self._options.max_epochs + 1):
            for batch in torch.split(rows[torch.randperm(len(rows))], _BATCH):
                loss = self._loss(batch, drops=True)
                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
            with torch.no_grad():
                validation_loss = float(self._loss(torch.from_numpy(validation), drops=False))
            on_progress(epoch)
            if validation_loss < best_loss - 1e-4:
                best, best_loss, best_epoch = self._snapshot(), validation_loss, epoch
            elif epoch - best_epoch >= self._options.patience:
                break
        self._parameters = best
        on_progress(self._options.max_epochs)
        return best_epoch

    def predict(self, rows: npt.NDArray[np.intp]) -> npt.NDArray[np.int64]:
        """Return (n,) classes."""
        with torch.no_grad():
            predicted: npt.NDArray[np.int64] = self._logits(torch.from_numpy(rows), drops=False).argmax(dim=1).numpy()
        return predicted

    def correct(self, rows: npt.NDArray[np.intp]) -> int:
        """Return how many rows get their own class."""
        return int((self.predict(rows) == self._classes.numpy()[rows]).sum())

    def tensors(self) -> dict[str, Floats]:
        """Return the attention's tensors."""
        return {name: value.numpy() for name, value in self._parameters.items() if name != "classifier"}

    def _snapshot(self) -> dict[str, Tensor]:
        return {name: parameter.detach().clone() for name, parameter in self._parameters.items()}

    def _loss(self, rows: Tensor, *, drops: bool) -> Tensor:
        return functional.cross_entropy(self._logits(rows, drops=drops), self._classes[rows])

    def _logits(self, rows: Tensor, *, drops: bool) -> Tensor:
        fused = functional.normalize(self._fuse(rows, drops=drops), dim=1)
        return _CLASSIFIER_SCALE * fused @ functional.normalize(self._parameters["classifier"], dim=1).T

    def _fuse(self, rows: Tensor, *, drops: bool) -> Tensor:
        """Fuse as `AttentionFusion` does, in batches; returns (n, dim)."""
        vectors, present = self._vectors[rows], self._present[rows]  # (n, f, dim), (n, f)
        if drops:
            kept = present & (torch.rand(present.shape) >= _FIELD_DROPOUT)
            present = torch.where(kept.any(dim=1, keepdim=True), kept, present)
        counts = present.sum(dim=1, keepdim=True)
        mean = (vectors * present[..., None]).sum(dim=1) / counts  # (n, dim)
        if not self._attends:
            return mean
        p = self._parameters
        names = p["key_of_name"][:-1].expand(len(rows), -1, -1)  # (n, f, width)
        if drops:
            unnamed = torch.rand(present.shape)[..., None] < _NAME_DROPOUT
            names = torch.where(unnamed, p["key_of_name"][-1], names)
        keys = vectors @ p["key_of_vector"].T + names
        query = p["query"] + mean @ p["query_of_mean"].T  # (n, width)
        scores = (keys * query[:, None]).sum(dim=2) / self._options.width**0.5
        weights = torch.softmax(scores.masked_fill(~present, -torch.inf), dim=1)  # (n, f)
        return (vectors * weights[..., None]).sum(dim=1)


def _accuracy(walk: _Walk, rows: npt.NDArray[np.intp], method: str) -> Metric:
    correct = walk.correct(rows)
    return Metric(correct / len(rows), *wilson(correct, len(rows)), len(rows), method)
