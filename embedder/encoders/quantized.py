"""8-bit and 4-bit weights on CUDA, by torchao."""

from __future__ import annotations

import copy
from typing import Literal

import torch
from torch import nn

from embedder.encoders.towers import BF16, Precision
from embedder.errors import EncoderLoadError

TorchaoSetting = Literal["fp8", "int8", "int4"]


def quantize_module(module: nn.Module, setting: TorchaoSetting, device: torch.device) -> nn.Module:
    """Return a bf16 copy of a module on a CUDA device, with its linear layers quantized.

    Args:
        module: in float32, anywhere; it is left as it is.
        setting: `fp8` multiplies in 8-bit floats (Hopper and newer); `int8` and `int4` keep weights in so many bits and
            multiply in bf16, which saves memory traffic and so helps small batches only.
        device: where it is to run.
    Raises:
        EncoderLoadError: torchao is not installed.
    """
    try:
        from torchao.quantization import (
            Float8DynamicActivationFloat8WeightConfig,
            Int4WeightOnlyConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise EncoderLoadError(
            f"precision={setting} on CUDA needs torchao ({error}): pip install 'embedder[quantized]', or choose bf16"
        ) from error
    configs = {
        "fp8": Float8DynamicActivationFloat8WeightConfig,
        "int8": Int8WeightOnlyConfig,
        "int4": Int4WeightOnlyConfig,
    }
    quantized = copy.deepcopy(module).to(device, BF16.dtype)
    quantize_(quantized, configs[setting]())
    return quantized


def quantized_precision(setting: TorchaoSetting) -> Precision:
    """Return the numerics class of a quantized module: what stands between its layers is bf16."""
    return Precision(f"{setting}-torchao", BF16.dtype)
