"""Attention over a post's fields: which of them count, by what they say and what they are called."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import HeadInvalid
from embedder_heads.fusion.fusion_manifest import FusionManifest
from embedder_heads.kinds import Floats

# Shapes in names of sizes: `fields` is one more than the names that the fusion knows; the last row is for every other name.
TENSOR_SHAPES: Mapping[str, tuple[str, ...]] = {
    "query": ("width",),
    "query_of_mean": ("width", "dim"),
    "key_of_vector": ("width", "dim"),
    "key_of_name": ("fields", "width"),
}
_SHORTEST_SUM = 1e-6


@dataclass(frozen=True)
class AttentionFusion:
    """One trained fusion, checked: its manifest and read-only float32 tensors fit each other.

    With the unit vectors v_i of the fields that are there, their mean m, and the rows k_i of their names:
    a = softmax((query + query_of_mean m) . (key_of_vector v_i + k_i) / sqrt(width)), and f = sum(a_i v_i) / |sum(a_i v_i)|.
    So the result stays in the span of the fields, where the heads and indexes of the space understand it.

    Attributes:
        manifest: what it is.
        tensors: by name.
        tensors_digest: SHA-256 of its tensors' file, 64 hex digits.

    Source: Vaswani et al. 2017, section 3.2.1 (scaled dot-product attention).
    """

    manifest: FusionManifest
    tensors: Mapping[str, Floats]
    tensors_digest: str

    def __post_init__(self) -> None:
        check_tensors(self.tensors, sizes={"dim": self.manifest.dim, "fields": len(self.manifest.fields) + 1})

    @property
    def identity(self) -> str:
        """Everything that shapes the fused vector, as one line of text."""
        return f"attention,{self.tensors_digest},{json.dumps(self.manifest.fields, separators=(',', ':'))}"

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {name: row for row, name in enumerate(self.manifest.fields)}

    def weigh(self, names: Sequence[str], vectors: Floats) -> Floats:
        """Return how much each field counts, (f,) float32 that sum to 1."""
        tensors = self.tensors
        names_keys = tensors["key_of_name"]
        rows = [self._rows.get(name, len(names_keys) - 1) for name in names]
        keys = vectors @ tensors["key_of_vector"].T + names_keys[rows]  # (f, width)
        query = tensors["query"] + tensors["query_of_mean"] @ vectors.mean(axis=0)  # (width,)
        scores = keys @ query / np.sqrt(np.float32(len(query)))
        weights = np.exp(scores - scores.max())
        shares: Floats = (weights / weights.sum()).astype(np.float32)
        return shares

    def fuse(self, names: Sequence[str], vectors: Floats) -> Floats:
        """Fuse the vectors of the fields that are there, (f, dim) float32, f at least 1, to (dim,) float32 of L2 norm 1.

        Where they cancel each other out, the one that counts most stands for all.
        """
        weights = self.weigh(names, vectors)
        fused: Floats = weights @ vectors
        length = np.linalg.norm(fused)
        if length > _SHORTEST_SUM:
            return (fused / length).astype(np.float32)
        heaviest: Floats = vectors[int(np.argmax(weights))]
        return heaviest


def check_tensors(tensors: Mapping[str, npt.NDArray[np.generic]], *, sizes: Mapping[str, int]) -> None:
    """Check that tensors are those of a fusion: names, shapes, float32, every value finite; raises HeadInvalid."""
    if set(tensors) != set(TENSOR_SHAPES):
        raise HeadInvalid(f"a fusion has the tensors {sorted(TENSOR_SHAPES)}, and this one has {sorted(tensors)}")
    known = dict(sizes)
    for name, symbols in TENSOR_SHAPES.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32:
            raise HeadInvalid(f"tensor {name!r} is {tensor.dtype}; fusions are float32")
        if tensor.ndim != len(symbols) or 0 in tensor.shape:
            raise HeadInvalid(f"tensor {name!r} has shape {tensor.shape}; it should be ({', '.join(symbols)})")
        for symbol, size in zip(symbols, tensor.shape, strict=True):
            if known.setdefault(symbol, size) != size:
                raise HeadInvalid(f"tensor {name!r} has {symbol}={size}; it should be {known[symbol]}")
        if not np.isfinite(tensor).all():
            raise HeadInvalid(f"tensor {name!r} holds NaN or infinity")
