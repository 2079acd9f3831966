"""What the heads' tests share: heads of every kind, and clusters of unit vectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task

DIM = 16
SPACE = bytes(range(32))

Floats = npt.NDArray[np.float32]
MakeHead = Callable[..., Head]


def _tensors(kind: HeadKind, labels: int, generator: np.random.Generator) -> dict[str, Floats]:
    def draw(*shape: int) -> Floats:
        return generator.standard_normal(shape).astype(np.float32)

    if kind is HeadKind.LINEAR:
        return {"weight": draw(labels, DIM), "bias": draw(labels)}
    if kind is HeadKind.MLP:
        hidden = {"hidden_weight": draw(7, DIM), "hidden_bias": draw(7)}
        return {**hidden, "weight": draw(labels, 7), "bias": draw(labels)}
    landmarks = draw(9, DIM)
    landmarks /= np.linalg.norm(landmarks, axis=1, keepdims=True)
    gamma = np.array([1.5], np.float32)
    return {"landmarks": landmarks, "gamma": gamma, "weight": draw(labels, 9), "bias": draw(labels)}


@pytest.fixture
def make_head() -> MakeHead:
    """Make a head of random tensors, the same for the same seed."""

    def make(
        name: str = "topic",
        *,
        kind: HeadKind = HeadKind.LINEAR,
        task: Task = Task.SINGLE_LABEL,
        labels: int = 3,
        seed: int = 0,
        space: bytes = SPACE,
        temperature: float = 1.0,
    ) -> Head:
        manifest = HeadManifest(
            name=name,
            kind=kind,
            task=task,
            space_digest=space.hex(),
            dim=DIM,
            labels=tuple(f"label{number}" for number in range(labels)),
            thresholds=(0.5,) * labels if task is Task.MULTI_LABEL else (),
            data_digest="0" * 64,
            temperature=temperature,
        )
        return Head(manifest, _tensors(kind, labels, np.random.default_rng(seed)))

    return make


@pytest.fixture
def vectors() -> Floats:
    """(20, DIM) unit vectors."""
    drawn = np.random.default_rng(7).standard_normal((20, DIM)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


@pytest.fixture
def registry(tmp_path: Path) -> HeadRegistry:
    """An empty registry."""
    return HeadRegistry(tmp_path / "heads")


@pytest.fixture
def clusters() -> Callable[[int], tuple[Floats, list[str]]]:
    """Draw n unit vectors around four centres, with the names of their centres."""

    def draw(count: int) -> tuple[Floats, list[str]]:
        generator = np.random.default_rng(3)
        centres = generator.standard_normal((4, DIM))
        which = generator.integers(0, 4, count)
        drawn = (centres[which] + 0.6 * generator.standard_normal((count, DIM))).astype(np.float32)
        drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
        return drawn, [f"topic{number}" for number in which]

    return draw
