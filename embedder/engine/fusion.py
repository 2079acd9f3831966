"""Fusion: the vectors of a post's fields to the one of the post."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedder.errors import InvalidContent, InvalidRequest

MEAN = "mean"
"""The name of the fusion that needs no training."""

_SHORTEST_SUM = 1e-6

Floats = npt.NDArray[np.float32]


class Fusion(Protocol):
    """Makes a post's vector of its fields'."""

    @property
    def identity(self) -> str:
        """Everything that shapes the fused vector, as one line of text; part of the key of every post."""
        ...

    def fuse(self, names: Sequence[str], vectors: Floats) -> Floats:
        """Fuse the vectors of the fields that are there, (f, dim) float32, f at least 1, to (dim,) float32 of L2 norm 1."""
        ...


class Fusions(Protocol):
    """Finds the trained fusions that are served."""

    def resolve(self, ref: str, space_digest: bytes) -> Fusion:
        """Return the fusion of a reference; raises where there is none, or it is of another space."""
        ...

    def of_space(self, space_digest: bytes) -> Sequence[Fusion]:
        """Return every fusion of a space."""
        ...


@dataclass(frozen=True, slots=True)
class MeanFusion:
    """The weighted mean, brought to unit length: f = sum(w_i v_i) / |sum(w_i v_i)|.

    Attributes:
        weights: by field name; a name that is not among them weighs 1.
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise InvalidRequest(f"field {name!r} has the weight {weight}; weights are 0 or more, and finite")

    @property
    def identity(self) -> str:
        """Everything that shapes the fused vector, as one line of text."""
        return "mean," + json.dumps(sorted(self.weights.items()), separators=(",", ":"))

    def fuse(self, names: Sequence[str], vectors: Floats) -> Floats:
        """Fuse fields; raises InvalidContent where every field weighs nothing, or they cancel each other out."""
        weights = np.array([self.weights.get(name, 1.0) for name in names], np.float32)  # (f,)
        if not weights.any():
            raise InvalidContent(f"every field of the post weighs 0: {', '.join(names)}")
        return unit(weights @ vectors, "the fields' vectors cancel each other out")


def unit(vector: Floats, otherwise: str) -> Floats:
    """Bring a vector to L2 norm 1; raises InvalidContent with the words of `otherwise` where it has no direction."""
    length = float(np.linalg.norm(vector))
    if not length > _SHORTEST_SUM:
        raise InvalidContent(otherwise)
    scaled: Floats = (vector / length).astype(np.float32)
    return scaled
