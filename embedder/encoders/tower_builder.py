"""Builds a tower in one named precision, and knows which ones a device has."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch

from embedder.encoders.library_image import LibraryImage
from embedder.encoders.library_text import LibraryText
from embedder.encoders.onnx_text import OnnxInt8Text
from embedder.encoders.packed_text import build_packed_text
from embedder.encoders.precision_policy import PrecisionPolicy, PrecisionSetting
from embedder.encoders.quantized import TorchaoSetting, quantize_module, quantized_precision
from embedder.encoders.towers import BF16, FP16, FP32, ImageModel, ImageTower, Precision, TextModel, TextTower
from embedder.errors import EncoderLoadError

_NAMED: dict[PrecisionSetting, Precision] = {"fp32": FP32, "bf16": BF16, "fp16": FP16}
_ON_CPU = ("fp32", "bf16", "int8")
_NATIVE_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# 8 bits move vectors further than this, so a stricter tolerance need not wait for their measurement.
_INT8_TOLERANCE = 0.995


def build_text(model: TextModel, device: torch.device, setting: PrecisionSetting, policy: PrecisionPolicy) -> TextTower:
    """Build a text tower.

    Args:
        model: the loaded model.
        device: where it is to run.
        setting: the precision; not `auto`.
        policy: whether it is to be deterministic, and where an exported graph is kept.
    Raises:
        EncoderLoadError: the device does not compute in that precision, or a library is missing.
    """
    _check(setting, device, policy)
    if precision := _NAMED.get(setting):
        packed = build_packed_text(model, device, precision, deterministic=policy.deterministic)
        return packed or LibraryText(model, device, precision, deterministic=policy.deterministic)
    if device.type == "cpu":
        return OnnxInt8Text(model, None if policy.folder is None else policy.folder / "onnx")
    few = cast("TorchaoSetting", setting)
    module = quantize_module(model.module, few, device)
    return LibraryText(model, device, quantized_precision(few), module=module)


def build_image(
    model: ImageModel, device: torch.device, setting: PrecisionSetting, policy: PrecisionPolicy
) -> ImageTower:
    """Build an image tower, as `build_text` does."""
    _check(setting, device, policy)
    if precision := _NAMED.get(setting):
        return LibraryImage(model, device, precision, deterministic=policy.deterministic)
    few = cast("TorchaoSetting", setting)
    module = quantize_module(model.module, few, device)
    return LibraryImage(model, device, quantized_precision(few), module=module)


def candidates(device: torch.device, tolerance: float) -> tuple[PrecisionSetting, ...]:
    """Return what `auto` may take on a device, the likely fastest first; float32 is always the last."""
    if device.type == "cuda":
        return ("bf16", "fp16", "fp32")
    found: tuple[PrecisionSetting, ...] = ("bf16", "fp32") if computes_bf16() else ("fp32",)
    return ("int8", *found) if tolerance <= _INT8_TOLERANCE else found


def computes_bf16() -> bool:
    """Whether the processor multiplies in bf16; without it, bf16 is slower than float32."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return not _NATIVE_BF16_FLAGS.isdisjoint(flags.split())


def _check(setting: PrecisionSetting, device: torch.device, policy: PrecisionPolicy) -> None:
    if device.type == "cpu" and setting not in _ON_CPU:
        raise EncoderLoadError(
            f"precision={setting} needs a CUDA device, and device={device}; {', '.join(_ON_CPU)} are allowed here"
        )
    if policy.deterministic and setting not in _NAMED:
        raise EncoderLoadError(
            f"precision={setting} has no deterministic form; {', '.join(_NAMED)} are allowed with --deterministic"
        )
