"""From vectors to logits for one head of any kind; training and serving both go through here."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from embedder_heads.classification import activate
from embedder_heads.head_file import Head
from embedder_heads.kinds import Floats, HeadKind


def head_logits(kind: HeadKind, tensors: Mapping[str, Floats], vectors: Floats) -> Floats:
    """Compute logits, not yet divided by a temperature.

    Args:
        kind: how the head computes.
        tensors: the kind's tensors, checked.
        vectors: (n, dim) float32 unit vectors.
    Returns:
        (labels, n) float32: a label's logits lie together in memory.
    Source: kernel: Rasmussen & Williams 2006, section 4.2 (squared exponential), on unit vectors.
    """
    if kind is HeadKind.LINEAR:
        inputs = vectors.T  # (dim, n)
    elif kind is HeadKind.MLP:
        inputs = tensors["hidden_weight"] @ vectors.T  # (hidden, n)
        inputs += tensors["hidden_bias"][:, None]
        np.maximum(inputs, 0.0, out=inputs)
    else:  # exp(-gamma |v - l|^2) = exp(2 gamma (v.l - 1)) for unit vectors
        inputs = tensors["landmarks"] @ vectors.T  # (landmarks, n)
        inputs -= 1.0
        inputs *= 2.0 * tensors["gamma"]
        np.exp(inputs, out=inputs)
    logits: Floats = tensors["weight"] @ inputs
    logits += tensors["bias"][:, None]
    return logits


def head_scores(head: Head, vectors: Floats) -> Floats:
    """Score vectors by one head.

    Args:
        head: the head.
        vectors: (n, dim) float32 unit vectors.
    Returns:
        (n, labels) float32.
    """
    logits = head_logits(head.manifest.kind, head.tensors, vectors)
    logits /= np.float32(head.manifest.temperature)
    scores: Floats = activate(logits[None], head.manifest.task)[0].T
    return scores
