"""How alike two spaces are on the same contents: neighbours that stay, and geometry that stays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from embedder_heads.metric import Metric
from embedder_heads.training.intervals import bootstrap

Floats = npt.NDArray[np.float32]

_BLOCK = 1_024
_COSINE_PAIRS = 200_000


def nearest(vectors: Floats, among: Floats, k: int, *, skip_self: bool) -> npt.NDArray[np.intp]:
    """Return (n, k) rows of `among` that are nearest to each of (n, dim) unit vectors, by exact search.

    Args:
        vectors: the queries.
        among: (m, dim) unit vectors.
        k: how many, under m.
        skip_self: whether row i of `among` is no neighbour of query i.
    """
    found = np.empty((len(vectors), k), np.intp)
    for start in range(0, len(vectors), _BLOCK):
        cosines = vectors[start : start + _BLOCK] @ among.T  # (b, m)
        if skip_self:
            rows = np.arange(len(cosines))
            cosines[rows, start + rows] = -np.inf
        found[start : start + _BLOCK] = np.argpartition(-cosines, k - 1, axis=1)[:, :k]
    return found


def shared_neighbours(left: npt.NDArray[np.intp], right: npt.NDArray[np.intp]) -> npt.NDArray[np.float64]:
    """Return (n,) the share of row i's neighbours in `left`, (n, k), that are in `right`'s row i too."""
    k = left.shape[1]
    both = np.concatenate([np.sort(left, axis=1), np.sort(right, axis=1)], axis=1)
    both.sort(axis=1)
    shares: npt.NDArray[np.float64] = (both[:, 1:] == both[:, :-1]).sum(axis=1) / k
    return shares


def neighbour_overlap(old: Floats, new: Floats, k: int) -> npt.NDArray[np.float64]:
    """Return (n,) the share of each content's k nearest in one space that are among its k nearest in the other."""
    return shared_neighbours(nearest(old, old, k, skip_self=True), nearest(new, new, k, skip_self=True))


def mean_metric(values: npt.NDArray[np.floating], *, method: str, seed: int) -> Metric:
    """Return the mean of (n,) values with its 95 % interval."""
    wide = np.asarray(values, np.float64)
    low, high = bootstrap(lambda rows: float(wide[rows].mean()), len(wide), seed=seed)
    return Metric(float(wide.mean()), low, high, len(wide), f"{method}, bootstrap")


def linear_cka(old: Floats, new: Floats) -> float:
    """Return how alike two spaces are up to rotation and scale, 0 to 1.

    Source: Kornblith et al. 2019, section 3 (linear centred kernel alignment).
    """
    left, right = (np.asarray(side - side.mean(axis=0), np.float64) for side in (old, new))
    cross = float(np.square(left.T @ right).sum())
    own = float(np.linalg.norm(left.T @ left) * np.linalg.norm(right.T @ right))
    return cross / own if own else 0.0


def cosine_rank_correlation(old: Floats, new: Floats, *, seed: int) -> float:
    """Return Spearman's correlation of the cosines of the same pairs of contents in both spaces, of pairs drawn at random."""
    generator = np.random.default_rng(seed)
    left, right = generator.integers(0, len(old), (2, min(_COSINE_PAIRS, len(old) ** 2)))
    apart = left != right
    left, right = left[apart], right[apart]
    cosines = [np.einsum("ij,ij->i", side[left], side[right]) for side in (old, new)]
    return float(spearmanr(*cosines).statistic)
