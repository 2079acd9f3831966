"""Precision: which numerics class a tower runs in on this device."""

from __future__ import annotations

import torch

from embedder.encoders.library_image import LibraryImage
from embedder.encoders.library_text import LibraryText
from embedder.encoders.packed_text import build_packed_text
from embedder.encoders.towers import BF16, FP16, FP32, ImageModel, ImageTower, Precision, TextModel, TextTower
from embedder.errors import EncoderLoadError

_NAMED = {"fp32": FP32, "bf16": BF16, "fp16": FP16}


def text_tower(model: TextModel, device: torch.device, setting: str) -> TextTower:
    """Choose and build the text tower.

    Args:
        model: the loaded model.
        device: where it is to run.
        setting: `auto`, or a precision's name.
    Raises:
        EncoderLoadError: the device does not compute in that precision.
    """
    precision = _precision(setting, device)
    return build_packed_text(model, device, precision) or LibraryText(model, device, precision)


def image_tower(model: ImageModel, device: torch.device, setting: str) -> ImageTower:
    """Choose and build the image tower, as `text_tower` does."""
    return LibraryImage(model, device, _precision(setting, device))


def _precision(setting: str, device: torch.device) -> Precision:
    if setting == "auto":
        return BF16 if device.type == "cuda" else FP32
    if setting == "fp16" and device.type != "cuda":
        raise EncoderLoadError(
            f"precision=fp16 needs a CUDA device, and device={device}; fp32 and bf16 are allowed here"
        )
    return _NAMED[setting]
