"""Fits a bridge on the same contents in two spaces, and measures what is lost by it on contents that it did not learn from."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import RidgeCV

from embedder_heads.bridge.bridge_file import Bridge, BridgeManifest, BridgeMethod
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.forward import head_scores
from embedder_heads.head_file import Head
from embedder_heads.kinds import Floats, Task
from embedder_heads.metric import Metric
from embedder_heads.training.neighbours import mean_metric, nearest, shared_neighbours
from embedder_heads.training.quality import decide

NEIGHBOURS = 10

_ALPHAS = np.logspace(-4, 2, 13)
_HELD_OUT_SHARE = 0.2
_LEAST_PAIRS = 100
_NEARER = 1e-3  # in mean cosine


@dataclass(frozen=True, slots=True)
class BridgeEnds:
    """Which spaces a bridge joins.

    Attributes:
        name: the bridge's name.
        source_digest: the space whose vectors it takes, 64 hex digits.
        target_digest: the space whose heads it serves, 64 hex digits.
    """

    name: str
    source_digest: str
    target_digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """Labelled contents in both spaces.

    Attributes:
        source: (n, source dim) float32.
        target: (n, target dim) float32.
        targets: (n, labels) float32, by the head's labels.
    """

    source: Floats
    target: Floats
    targets: Floats


def fit_bridge(
    ends: BridgeEnds,
    source: Floats,
    target: Floats,
    *,
    heads: Sequence[Head] = (),
    labelled: Mapping[str, Labelled] | None = None,
    seed: int = 0,
) -> Bridge:
    """Fit a map from one space to another: ridge regression, or a rotation where both have the same length, whichever is nearer.

    A fifth of the pairs is held out: method and penalty are chosen on the others, and what is lost is measured on it. The map that
    is returned then learns from all pairs.

    Args:
        ends: which spaces.
        source: (n, source dim) float32 unit vectors.
        target: (n, target dim) float32 unit vectors of the same contents.
        heads: heads of the target space; how often each decides otherwise on a mapped vector is measured.
        labelled: labelled contents for heads by name; their accuracy on both sides is measured.
        seed: of the split and the resampling.
    Raises:
        TrainingDataInvalid: there are too few pairs, or they don't fit each other.
    Source: Schönemann 1966 (orthogonal Procrustes); Hoerl & Kennard 1970 (ridge), penalty by leave-one-out.
    """
    if len(source) != len(target) or len(source) < _LEAST_PAIRS:
        raise TrainingDataInvalid(
            f"{len(source)} and {len(target)} vectors; a bridge is fitted on {_LEAST_PAIRS} pairs at least"
        )
    order = np.random.default_rng(seed).permutation(len(source))
    held_out, rows = np.split(order, [int(len(order) * _HELD_OUT_SHARE)])
    chosen_on, learned_on = np.split(rows, [int(len(rows) * _HELD_OUT_SHARE)])
    methods = [BridgeMethod.RIDGE]
    if source.shape[1] == target.shape[1]:
        methods.append(BridgeMethod.PROCRUSTES)
    nearness = {}
    for method in methods:
        candidate = _fit(method, source[learned_on], target[learned_on])
        nearness[method] = float(_cosines(candidate.apply(source[chosen_on]), target[chosen_on]).mean())
    # Of two that are as near the rotation is taken: it keeps the neighbours of the new space as they are.
    method = max(methods, key=lambda one: nearness[one] + _NEARER * (one is BridgeMethod.PROCRUSTES))
    measured = _fit(method, source[rows], target[rows])
    metrics = _measure(measured, source[held_out], target[held_out], heads, seed=seed)
    for name, examples in (labelled or {}).items():
        head = next(one for one in heads if one.manifest.name == name)
        metrics |= _accuracies(measured, head, examples, seed=seed)
    final = _fit(method, source, target)
    manifest = BridgeManifest(
        name=ends.name,
        method=method,
        source_digest=ends.source_digest,
        target_digest=ends.target_digest,
        source_dim=source.shape[1],
        target_dim=target.shape[1],
        data_digest=_data_digest(source, target),
        metrics=metrics,
        training={"pairs": len(source), "held_out": len(held_out), "seed": seed, **final.notes},
    )
    return Bridge(manifest, final.weight, final.bias)


@dataclass(frozen=True, slots=True, eq=False)
class _Map:
    weight: Floats
    bias: Floats
    notes: dict[str, str | int | float]

    def apply(self, vectors: Floats) -> Floats:
        mapped = vectors @ self.weight.T + self.bias
        unit: Floats = mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), np.float32(1e-12))
        return unit


def _fit(method: BridgeMethod, source: Floats, target: Floats) -> _Map:
    if method is BridgeMethod.PROCRUSTES:
        rotation, _ = orthogonal_procrustes(source.astype(np.float64), target.astype(np.float64))
        weight = np.ascontiguousarray(rotation.T, np.float32)
        return _Map(weight, np.zeros(target.shape[1], np.float32), {})
    model = RidgeCV(alphas=_ALPHAS).fit(source.astype(np.float64), target.astype(np.float64))
    weight = np.ascontiguousarray(model.coef_, np.float32)
    return _Map(weight, np.asarray(model.intercept_, np.float32), {"alpha": float(model.alpha_)})


def _measure(measured: _Map, source: Floats, target: Floats, heads: Sequence[Head], *, seed: int) -> dict[str, Metric]:
    mapped = measured.apply(source)
    method = f"{len(source)} held-out pairs"
    k = min(NEIGHBOURS, len(target) - 1)
    own, found = nearest(target, target, k, skip_self=True), nearest(mapped, target, k, skip_self=True)
    metrics = {
        "cosine": mean_metric(_cosines(mapped, target), method=method, seed=seed),
        f"neighbour_overlap_at_{k}": mean_metric(
            shared_neighbours(own, found), method=f"{method}, exact search among them", seed=seed
        ),
    }
    for head in heads:
        alike = (_decisions(head, mapped) == _decisions(head, target)).all(axis=1)
        if head.manifest.task is not Task.REGRESSION:
            name = f"{head.manifest.name}@{head.manifest.version}.agreement"
            metrics[name] = mean_metric(alike.astype(np.float64), method=method, seed=seed)
    return metrics


def _accuracies(measured: _Map, head: Head, examples: Labelled, *, seed: int) -> dict[str, Metric]:
    """Measure a head on labelled contents, on their own vectors and on mapped ones."""
    own, mapped = (
        (_decisions(head, vectors) == examples.targets).all(axis=1).astype(np.float64)
        for vectors in (examples.target, measured.apply(examples.source))
    )
    name, method = f"{head.manifest.name}@{head.manifest.version}", "labelled file"
    return {
        f"{name}.accuracy_before": mean_metric(own, method=method, seed=seed),
        f"{name}.accuracy_bridged": mean_metric(mapped, method=method, seed=seed),
        f"{name}.accuracy_loss": mean_metric(own - mapped, method=f"{method}, paired", seed=seed),
    }


def _decisions(head: Head, vectors: Floats) -> Floats:
    return decide(head_scores(head, vectors), head.manifest.task, np.array(head.manifest.thresholds, np.float32))


def _cosines(left: Floats, right: Floats) -> npt.NDArray[np.float32]:
    cosines: npt.NDArray[np.float32] = np.einsum("ij,ij->i", left, right)
    return cosines


def _data_digest(source: Floats, target: Floats) -> str:
    digest = hashlib.sha256(np.ascontiguousarray(source).tobytes())
    digest.update(np.ascontiguousarray(target).tobytes())
    return digest.hexdigest()
