"""Measures a head on labelled vectors that it did not learn from."""

from __future__ import annotations

import numpy as np

from embedder_heads.forward import head_scores
from embedder_heads.head_file import Head
from embedder_heads.metric import Metric
from embedder_heads.registry import check_space
from embedder_heads.training.examples import Examples
from embedder_heads.training.quality import decide, measure


def evaluate_head(head: Head, examples: Examples, *, space_digest: bytes, seed: int = 0) -> dict[str, Metric]:
    """Measure a head.

    Args:
        head: the head.
        examples: labelled vectors whose labels are the head's, in its order.
        space_digest: the vectors' space, 32 bytes.
        seed: of the bootstrap.
    Raises:
        HeadSpaceMismatch: the head is of another space.
    """
    check_space(head.manifest, space_digest)
    task = head.manifest.task
    scores = head_scores(head, examples.vectors)
    predicted = decide(scores, task, np.array(head.manifest.thresholds, np.float32))
    return measure(scores, examples.targets, task, predicted=predicted, method="held-out file", seed=seed)
