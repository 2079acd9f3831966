"""More like this: the neighbours of a history's recency-weighted mean, the seen ones left out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.filters import Filter
from embedder_heads.index.vector_index import IndexHit, VectorIndex
from embedder_heads.kinds import Floats

HALF_LIFE_ITEMS = 10.0
"""Items after which a seen one counts half; an assumption that `benchmarks.recommend` measures against others."""


def history_profile(vectors: Floats, *, half_life_items: float = HALF_LIFE_ITEMS) -> Floats:
    """Fold a history into one vector, the recent items weighing more.

    Args:
        vectors: (n, dim) float32 unit vectors, oldest first, n at least 1.
        half_life_items: number of later items after which one counts half.
    Returns:
        (dim,) float32 of L2 norm 1.
    """
    ages = np.arange(len(vectors) - 1, -1, -1, dtype=np.float32)
    weights = np.exp2(-ages / np.float32(half_life_items))
    profile: Floats = weights @ vectors
    norm = float(np.linalg.norm(profile))
    if norm < 1e-6:  # the history cancels itself out: its last item speaks for it
        last: Floats = vectors[-1]
        return last
    profile /= np.float32(norm)
    return profile


def more_like_this(
    index: VectorIndex,
    top_k: int,
    *,
    history_ids: Sequence[str] = (),
    history_vectors: Floats | None = None,
    exclude: Sequence[str] = (),
    filters: Mapping[str, Filter] | None = None,
) -> list[IndexHit]:
    """Find items like those of a history; an item can be found the moment it is in the index.

    Args:
        index: the items.
        top_k: items to return.
        history_ids: seen items of the index, oldest first; they never come back. Ids that the index lacks are skipped.
        history_vectors: (n, dim) float32 unit vectors of seen contents, oldest first, more recent than `history_ids`.
        exclude: further ids that must not come back.
        filters: metadata field to what it must be.
    Returns:
        The hits, best first; their score is the cosine to the history's profile.
    Raises:
        QueryInvalid: nothing of the history is known, or an argument is out of range.
    """
    known = [item_id for item_id in history_ids if item_id in index]
    parts = [index.vectors_of(known)] if known else []
    if history_vectors is not None and len(history_vectors):
        parts.append(history_vectors)
    if not parts:
        raise QueryInvalid("none of the history's ids is in the index, and there are no contents; give one that is")
    profile = history_profile(np.concatenate(parts))
    return index.search(profile[None], top_k, filters=filters, exclude=[*history_ids, *exclude])[0]
