"""Precision: the fastest class that keeps its vectors, and each its own."""

from __future__ import annotations

import pytest
import torch

from embedder.encoders import precision
from embedder.encoders.convolutions import FusedConvolution, fuse_convolutions


@pytest.mark.parametrize(
    ("family", "native", "chosen"),
    [
        ("bert", True, "bf16-packed"),
        ("bert", False, "fp32-packed"),
        ("electra", True, "bf16"),
        ("electra", False, "fp32"),
    ],
)
def test_auto_takes_bf16_where_the_processor_computes_in_it(
    load, text_folder, monkeypatch, family, native, chosen
) -> None:
    monkeypatch.setattr(precision, "_computes_bf16", lambda: native)
    assert load(text_folder(family)).info.numerics == chosen


def test_auto_falls_back_where_vectors_move_too_far(load, text_folder, monkeypatch) -> None:
    monkeypatch.setattr(precision, "_computes_bf16", lambda: True)
    monkeypatch.setattr(precision, "MIN_COSINE", 0.999999)
    assert load(text_folder()).info.numerics == "fp32-packed"
    monkeypatch.setattr(precision, "MIN_COSINE", 2.0)
    assert load(text_folder(name="again")).info.numerics == "fp32"


def test_a_kernel_that_is_missing_is_passed_over(load, text_folder, monkeypatch) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("no kernel")

    monkeypatch.setattr("embedder.encoders.packed_text.PackedText.embed", missing)
    monkeypatch.setattr(precision, "_computes_bf16", lambda: True)
    assert load(text_folder()).info.numerics == "fp32"


@pytest.mark.parametrize(("setting", "numerics"), [("fp32", "fp32-packed"), ("bf16", "bf16-packed")])
def test_a_named_precision_is_taken(load, text_folder, setting, numerics) -> None:
    assert load(text_folder(), precision=setting).info.numerics == numerics


class ConvolutionalTower(torch.nn.Module):
    """Two convolutions with normalization, as torchvision and timm lay them out; `crossed` runs them out of order."""

    def __init__(self, *, crossed: bool) -> None:
        super().__init__()
        from timm.layers import BatchNormAct2d

        self.conv1 = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(8)
        self.conv2 = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.bn2 = BatchNormAct2d(8, act_layer=torch.nn.ReLU6)
        self.crossed = crossed
        for norm in (self.bn1, self.bn2):
            torch.nn.init.normal_(norm.running_mean)
            torch.nn.init.uniform_(norm.running_var, 0.5, 2)
            torch.nn.init.normal_(norm.weight)
            torch.nn.init.normal_(norm.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn2(self.conv1(x)) if self.crossed else self.bn1(self.conv1(x))
        x = self.bn1(self.conv2(x)) if self.crossed else self.bn2(self.conv2(x))
        return x.mean(dim=(2, 3))


def test_fused_convolutions_give_the_towers_vectors() -> None:
    torch.manual_seed(0)
    tower = ConvolutionalTower(crossed=False).eval().requires_grad_(False)
    fused = fuse_convolutions(tower, 32)
    assert sum(isinstance(layer, FusedConvolution) for layer in fused.modules()) == 2
    pixels = torch.rand(3, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(fused(pixels), tower(pixels), atol=1e-5, rtol=1e-4)


def test_layers_that_run_in_another_order_are_left_alone() -> None:
    torch.manual_seed(0)
    tower = ConvolutionalTower(crossed=True).eval().requires_grad_(False)
    assert fuse_convolutions(tower, 32) is tower
