"""Convolutions made for inference on a CPU: normalization folded into the weights, activation fused."""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

# How far folding may move an output, relative to the outputs' size: a few roundings of float32.
_TOLERANCE = 1e-4

# oneDNN's names: operation and its two scalars.
_FUSED: dict[type, tuple[str, list[float]]] = {
    nn.Identity: ("none", []),
    nn.ReLU: ("relu", []),
    nn.ReLU6: ("hardtanh", [0.0, 6.0]),
    nn.SiLU: ("swish", []),
}


class FusedConvolution(nn.Module):
    """A convolution, the normalization behind it and the activation behind that, as one oneDNN call."""

    def __init__(self, convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> None:
        """Fold a normalization, with the activation that timm keeps inside of it, into a convolution; both in eval mode."""
        super().__init__()
        folded = fuse_conv_bn_eval(convolution, norm)
        self._convolution = folded
        self._pads_like_tensorflow = _pads_like_tensorflow(convolution)
        self._padding = [0, 0] if self._pads_like_tensorflow else list(folded.padding)
        self._stride, self._dilation = list(folded.stride), list(folded.dilation)
        self._operation, self._scalars = _FUSED[_activation(norm)]
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            folded.weight, self._padding, self._stride, self._dilation, folded.groups
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (n, in, h, w) to (n, out, h', w')."""
        if self._pads_like_tensorflow:
            from timm.layers.padding import pad_same

            x = pad_same(x, list(self._convolution.kernel_size), self._stride, self._dilation)
        y: torch.Tensor = torch.ops.mkldnn._convolution_pointwise(
            x,
            self._weight,
            self._convolution.bias,
            self._padding,
            self._stride,
            self._dilation,
            self._convolution.groups,
            self._operation,
            self._scalars,
            "",
        )
        return y


def fuse_convolutions(module: nn.Module, size: int) -> nn.Module:
    """Return a copy of an image tower with its convolutions fused, or the tower itself where that is not exact.

    Args:
        module: maps (n, 3, size, size) to (n, dim), in eval mode, in float32 on the CPU.
        size: height and width that it takes.
    """
    probe = torch.linspace(-1, 1, 3 * size * size).view(1, 3, size, size)
    with torch.inference_mode():
        fused = _fuse_children(copy.deepcopy(module))
        expected, given = module(probe), fused(probe)
    # Neighbours in a module's list need not follow each other in its forward: only the outcome tells.
    return fused if torch.allclose(given, expected, rtol=0, atol=_TOLERANCE * float(expected.abs().max())) else module


def _fuse_children(module: nn.Module) -> nn.Module:
    children = list(module.named_children())
    for _, child in children:
        _fuse_children(child)
    for (name, child), (next_name, following) in pairwise(children):
        if not isinstance(child, nn.Conv2d) or not isinstance(following, nn.BatchNorm2d):
            continue
        if _activation(following) in _FUSED and _has_known_padding(child):
            setattr(module, name, FusedConvolution(child, following))
            setattr(module, next_name, nn.Identity())
    return module


def _activation(norm: nn.Module) -> type:
    return type(getattr(norm, "act", nn.Identity()))


def _has_known_padding(convolution: nn.Module) -> bool:
    return isinstance(getattr(convolution, "padding", None), tuple) or _pads_like_tensorflow(convolution)


def _pads_like_tensorflow(convolution: nn.Module) -> bool:
    return type(convolution).__name__ == "Conv2dSame"
