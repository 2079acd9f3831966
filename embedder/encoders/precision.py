"""Precision: which numerics class a tower runs in on this device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch.nn import functional

from embedder.encoders.library_image import LibraryImage, embed_images_exactly
from embedder.encoders.library_text import LibraryText, embed_texts_exactly
from embedder.encoders.packed_text import build_packed_text
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder.encoders.towers import BF16, FP16, FP32, ImageModel, ImageTower, Precision, TextModel, TextTower
from embedder.errors import EncoderError, EncoderLoadError
from embedder.media.limits import MediaLimits

PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]

MIN_COSINE = 0.9999
"""How near every vector stays to the one that float32 gives for its content alone."""

_NAMED = {"fp32": FP32, "bf16": BF16, "fp16": FP16}
_NATIVE_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})


def text_tower(model: TextModel, device: torch.device, setting: PrecisionSetting) -> TextTower:
    """Choose and build the text tower.

    Args:
        model: the loaded model.
        device: where it is to run.
        setting: a precision's name, or `auto`: the first of bf16 (where the processor computes in it) and fp32, packed
            before padded, that keeps the samples within `MIN_COSINE` of the library's own forward in float32.
    Raises:
        EncoderLoadError: the device does not compute in that precision.
    """
    if setting != "auto":
        precision = _named(setting, device)
        return build_packed_text(model, device, precision) or LibraryText(model, device, precision)
    tokens = model.tokenizer.tokenize(SAMPLE_TEXTS)
    exact = embed_texts_exactly(model, tokens)
    for tower in _text_candidates(model, device):
        if _keeps(tower.embed, tokens, exact):
            return tower
        tower.close()
    return LibraryText(model, device, FP32)


def image_tower(model: ImageModel, device: torch.device, setting: PrecisionSetting) -> ImageTower:
    """Choose and build the image tower, as `text_tower` does."""
    if setting != "auto":
        return LibraryImage(model, device, _named(setting, device))
    pixels = [model.transform.prepare(sample_image(), MediaLimits())]
    exact = embed_images_exactly(model, pixels)
    for precision in _sixteen_bits(device):
        tower = LibraryImage(model, device, precision)
        if _keeps(tower.embed, pixels, exact):
            return tower
        tower.close()
    return LibraryImage(model, device, FP32)


def _text_candidates(model: TextModel, device: torch.device) -> Iterator[TextTower]:
    for precision in (*_sixteen_bits(device), FP32):
        packed = build_packed_text(model, device, precision)
        if packed is not None:
            yield packed
        elif precision is not FP32:
            yield LibraryText(model, device, precision)


def _sixteen_bits(device: torch.device) -> tuple[Precision, ...]:
    if device.type == "cuda":
        return (BF16, FP16)
    return (BF16,) if _computes_bf16() else ()


def _named(setting: PrecisionSetting, device: torch.device) -> Precision:
    if setting == "fp16" and device.type != "cuda":
        raise EncoderLoadError(
            f"precision=fp16 needs a CUDA device, and device={device}; fp32 and bf16 are allowed here"
        )
    return _NAMED[setting]


def _keeps(
    embed: Callable[[Sequence[object]], torch.Tensor] | Callable[..., torch.Tensor],
    items: Sequence[object],
    exact: torch.Tensor,
) -> bool:
    try:
        cosines = functional.cosine_similarity(embed(items), exact)
    except (RuntimeError, EncoderError):
        # The device lacks a kernel for this precision or shape.
        return False
    return bool((cosines >= MIN_COSINE).all())


def _computes_bf16() -> bool:
    """Whether the processor multiplies in bf16; without it, bf16 is slower than float32."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not _NATIVE_BF16_FLAGS.isdisjoint(flags.split())
