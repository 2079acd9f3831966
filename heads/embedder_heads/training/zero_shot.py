"""Makes a head from label names alone: each label is the vector of what would be said of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.head_file import Head, HeadManifest
from embedder_heads.kinds import Floats, HeadKind, Task
from embedder_heads.training.examples import make_examples

PROMPTS = ("{label}", "This is about {label}.")
"""What is said of a label by default; the vectors of all prompts are averaged."""

TEMPERATURE = 0.05
"""Cosines are divided by this before softmax; an assumption, since there is no example to calibrate on."""


def label_prompts(labels: Sequence[str], prompts: Sequence[str] = PROMPTS) -> list[str]:
    """Return the texts to embed, label after label; raises TrainingDataInvalid when a prompt lacks `{label}`."""
    for prompt in prompts:
        if "{label}" not in prompt:
            raise TrainingDataInvalid(f"prompt {prompt!r} does not say where the label goes; write {{label}} there")
    return [prompt.replace("{label}", label) for label in labels for prompt in prompts]


def zero_shot_head(vectors: Floats, labels: Sequence[str], *, name: str, space_digest: bytes) -> Head:
    """Make a head from the vectors of label prompts.

    Args:
        vectors: (labels x prompts, dim) float32 unit vectors, in the order of `label_prompts`.
        labels: the labels, two at least.
        name: the head's name.
        space_digest: the vectors' space, 32 bytes.
    Returns:
        A linear single-label head without metrics, since nothing was measured.
    Source: Radford et al. 2021, section 3.1 (prompt ensembles).
    """
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise TrainingDataInvalid(f"labels {list(labels)}; a zero-shot head needs two at least, each once")
    if not len(vectors) or len(vectors) % len(labels):
        raise TrainingDataInvalid(f"{len(vectors)} prompt vectors for {len(labels)} labels; each label needs as many")
    weight = vectors.reshape(len(labels), -1, vectors.shape[1]).mean(axis=1)
    weight /= np.maximum(np.linalg.norm(weight, axis=1, keepdims=True), np.float32(1e-6))
    examples = make_examples(weight, list(labels), task=Task.SINGLE_LABEL, labels=labels)
    manifest = HeadManifest(
        name=name,
        kind=HeadKind.LINEAR,
        task=Task.SINGLE_LABEL,
        space_digest=space_digest.hex(),
        dim=weight.shape[1],
        labels=tuple(labels),
        thresholds=(),
        temperature=TEMPERATURE,
        data_digest=examples.digest(),
        training={"zero_shot_prompts": len(vectors) // len(labels)},
    )
    return Head(manifest, {"weight": examples.vectors, "bias": np.zeros(len(labels), np.float32)})
