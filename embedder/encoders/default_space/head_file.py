"""The image head as a file: safetensors, with the two large matrices as bytes and a scale for each row."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch

_AS_BYTES = ("centres", "coefficients")
_AS_FLOAT32 = ("feature_mean", "feature_std", "kernel_sharpness", "class_temperature", "conse_weight")
# The frozen classifier comes with the image tower's own weights.
_ELSEWHERE = ("class_weight", "class_bias")


def write_head(state: Mapping[str, torch.Tensor], path: Path) -> None:
    """Write an `ImageHead`'s state, but for the classifier, in a fifth of its size in float32."""
    tensors: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if name in _ELSEWHERE:
            continue
        if name in _AS_BYTES:
            scale = value.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127  # (rows, 1)
            tensors[name] = (value / scale).round().to(torch.int8)
            tensors[f"{name}_scale"] = scale
        else:
            tensors[name] = value.to(torch.float32 if name in _AS_FLOAT32 else torch.float16)
    path.write_bytes(safetensors.torch.save({name: value.contiguous() for name, value in tensors.items()}))


def read_head(path: Path) -> dict[str, torch.Tensor]:
    """Read what `write_head` wrote, in float32.

    Raises:
        OSError: the file can't be read.
        safetensors.SafetensorError: it is not a safetensors file.
        KeyError: a row's scale is missing.
    """
    tensors = safetensors.torch.load_file(path)
    scales = {name: tensors.pop(f"{name}_scale") for name in _AS_BYTES}
    return {name: value.float() * scales[name] if name in scales else value.float() for name, value in tensors.items()}
