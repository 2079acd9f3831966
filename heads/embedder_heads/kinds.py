"""Kinds of heads, the tasks they serve, and the tensors that each kind is made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import HeadInvalid

Floats = npt.NDArray[np.float32]


class HeadKind(StrEnum):
    """How a head computes."""

    LINEAR = "linear"
    MLP = "mlp"
    KERNEL = "kernel"


class Task(StrEnum):
    """What a head's outputs mean."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"


# Every shape in names of sizes: `dim` and `labels` come from the manifest, others from the tensor that has them first.
TENSOR_SHAPES: Mapping[HeadKind, Mapping[str, tuple[str, ...]]] = {
    HeadKind.LINEAR: {"weight": ("labels", "dim"), "bias": ("labels",)},
    HeadKind.MLP: {
        "hidden_weight": ("hidden", "dim"),
        "hidden_bias": ("hidden",),
        "weight": ("labels", "hidden"),
        "bias": ("labels",),
    },
    HeadKind.KERNEL: {
        "landmarks": ("landmarks", "dim"),
        "gamma": ("one",),
        "weight": ("labels", "landmarks"),
        "bias": ("labels",),
    },
}


def check_tensors(kind: HeadKind, tensors: Mapping[str, npt.NDArray[np.generic]], *, sizes: Mapping[str, int]) -> None:
    """Check that tensors are exactly those of a kind: names, shapes, float32, every value finite.

    Args:
        kind: kind of the head.
        tensors: name to array.
        sizes: sizes known beforehand, such as `dim` and `labels`.
    Raises:
        HeadInvalid: one is missing, unknown, of another shape or dtype, or not finite.
    """
    shapes = TENSOR_SHAPES[kind]
    if set(tensors) != set(shapes):
        raise HeadInvalid(f"a {kind} head has the tensors {sorted(shapes)}, and this one has {sorted(tensors)}")
    known = {"one": 1, **sizes}
    for name, symbols in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32:
            raise HeadInvalid(f"tensor {name!r} is {tensor.dtype}; heads are float32")
        if tensor.ndim != len(symbols) or 0 in tensor.shape:
            raise HeadInvalid(f"tensor {name!r} has shape {tensor.shape}; it should be ({', '.join(symbols)})")
        for symbol, size in zip(symbols, tensor.shape, strict=True):
            if known.setdefault(symbol, size) != size:
                raise HeadInvalid(f"tensor {name!r} has {symbol}={size}; it should be {known[symbol]}")
        if not np.isfinite(tensor).all():
            raise HeadInvalid(f"tensor {name!r} holds NaN or infinity")
