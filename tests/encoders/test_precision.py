"""Precision: the fastest class that keeps its vectors, and each its own."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from structlog.testing import capture_logs

from embedder.encoders import tower_builder
from embedder.encoders.convolutions import FusedConvolution, fuse_convolutions
from embedder.encoders.golden import check_golden
from embedder.encoders.precision_measurement import Measurement, fastest
from embedder.encoders.precision_policy import PrecisionPolicy
from embedder.encoders.quantized import quantize_module
from embedder.encoders.towers import BF16
from embedder.errors import EncoderLoadError


@pytest.mark.parametrize(
    ("family", "native", "chosen"),
    [
        ("bert", True, "bf16-packed"),
        ("bert", False, "fp32-packed"),
        ("electra", True, "bf16"),
        ("electra", False, "fp32"),
    ],
)
def test_auto_without_a_folder_takes_bf16_where_the_processor_computes_in_it(
    load, text_folder, monkeypatch, family, native, chosen
) -> None:
    monkeypatch.setattr(tower_builder, "computes_bf16", lambda: native)
    assert load(text_folder(family)).info.numerics == chosen


def test_auto_falls_back_where_vectors_move_too_far(load, text_folder, monkeypatch) -> None:
    monkeypatch.setattr(tower_builder, "computes_bf16", lambda: True)
    assert load(text_folder(), precision=PrecisionPolicy(tolerance=0.9999995)).info.numerics == "fp32-packed"
    assert load(text_folder(name="again"), precision=PrecisionPolicy(tolerance=2.0)).info.numerics == "fp32"


def test_a_kernel_that_is_missing_is_passed_over(load, text_folder, monkeypatch, tmp_path) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError("no kernel")

    # Long enough that float32 can be measured, and bf16 can't.
    monkeypatch.setattr(tower_builder, "computes_bf16", lambda: True)
    build = tower_builder.build_packed_text

    def build_broken(model, device, precision, **options):
        tower = build(model, device, precision, **options)
        if tower is not None and precision is BF16:
            monkeypatch.setattr(tower, "embed", missing)
        return tower

    monkeypatch.setattr(tower_builder, "build_packed_text", build_broken)
    assert load(text_folder()).info.numerics == "fp32-packed"
    measured = PrecisionPolicy(folder=tmp_path / "kept")
    assert load(text_folder(name="again"), precision=measured).info.numerics == "fp32-packed"


@pytest.mark.parametrize(("setting", "numerics"), [("fp32", "fp32-packed"), ("bf16", "bf16-packed")])
def test_a_named_precision_is_taken(load, text_folder, setting, numerics) -> None:
    assert load(text_folder(), precision=setting).info.numerics == numerics


@pytest.mark.parametrize("setting", ["fp16", "fp8", "int4"])
def test_what_a_cpu_has_not_is_refused_with_what_it_has(load, text_folder, setting) -> None:
    with pytest.raises(
        EncoderLoadError, match=f"precision={setting} needs a CUDA device.*fp32, bf16, int8 are allowed"
    ):
        load(text_folder(), precision=setting)


def test_few_bits_have_no_deterministic_form(load, text_folder) -> None:
    with pytest.raises(EncoderLoadError, match="precision=int8 has no deterministic form"):
        load(text_folder(), precision=PrecisionPolicy(setting="int8", deterministic=True))


def measurement(numerics: str, *, min_cosine: float, speed: float) -> Measurement:
    return Measurement(
        numerics=numerics, min_cosine=min_cosine, recall_at_10=1.0, items_per_s=100 * speed, speed=speed, items=9
    )


def test_the_fastest_within_the_tolerance_wins() -> None:
    measured = [
        measurement("int8", min_cosine=0.98, speed=3),
        measurement("bf16", min_cosine=0.99995, speed=2),
        measurement("fp32", min_cosine=1.0, speed=1),
    ]
    assert fastest(measured, 0.95) is measured[0]
    assert fastest(measured, 0.9999) is measured[1]
    assert fastest(measured, 0.99999) is measured[2]
    assert fastest(measured[:2], 0.99999) is None


def test_auto_measures_once_and_later_starts_read_it(load, text_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tower_builder, "computes_bf16", lambda: True)
    folder, policy = text_folder(), PrecisionPolicy(folder=tmp_path / "kept")
    with capture_logs() as first:
        chosen = load(folder, precision=policy).info.numerics
    (file,) = (tmp_path / "kept").iterdir()
    kept = {name: Measurement(**fields) for name, fields in json.loads(file.read_text()).items()}
    assert kept.keys() == {"bf16", "fp32"}
    assert all(found.items_per_s > 0 for found in kept.values())
    assert kept["fp32"].min_cosine > 0.99999
    assert kept["fp32"].recall_at_10 == 1.0
    assert kept["fp32"].speed == 1.0
    assert 0 < kept["bf16"].recall_at_10 <= 1
    with capture_logs() as again:
        assert load(folder, precision=policy).info.numerics == chosen
    events = [[entry["event"] for entry in logs] for logs in (first, again)]
    assert events[0][0].startswith("measuring precisions")
    assert events[1] == events[0][1:] == ["precision measured", "precision measured", "precision chosen"]


def test_what_was_measured_decides(load, text_folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tower_builder, "computes_bf16", lambda: True)
    folder, policy = text_folder(), PrecisionPolicy(folder=tmp_path / "kept")
    load(folder, precision=policy)
    (file,) = (tmp_path / "kept").iterdir()
    kept = json.loads(file.read_text())
    for slower, faster in (("bf16", "fp32"), ("fp32", "bf16")):
        kept[slower] |= {"speed": 1.0, "min_cosine": 1.0}
        kept[faster] |= {"speed": 2.0, "min_cosine": 1.0}
        file.write_text(json.dumps(kept))
        assert load(folder, precision=policy).info.numerics == f"{faster}-packed"


def test_a_damaged_measurement_is_taken_again(load, text_folder, tmp_path) -> None:
    folder, policy = text_folder(), PrecisionPolicy(folder=tmp_path / "kept")
    load(folder, precision=policy)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_text('{"fp32": {"numerics"')
    load(folder, precision=policy)
    assert "fp32" in json.loads(file.read_text())


def test_int8_is_a_class_of_its_own_and_is_exported_once(load, sentence_folder, tmp_path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra embedder[int8]")
    folder, policy = sentence_folder(dense=True), PrecisionPolicy(setting="int8", folder=tmp_path / "kept")
    encoder = load(folder, precision=policy)
    assert encoder.info.numerics == "int8-onnx"
    assert encoder.info.space_digest != load(folder, precision="fp32").info.space_digest
    tokens = encoder.prepare_texts(["one", "a longer text, of some more letters", "two", "x" * 90])
    vectors, exact = encoder.encode_texts(tokens), encoder.encode_texts_exact(tokens)
    assert np.einsum("nd,nd->n", vectors, exact).min() > 0.98
    assert check_golden(encoder, None, min_cosine=policy.golden_cosine).min_cosine < 1
    (graph,) = (tmp_path / "kept" / "onnx").iterdir()
    before = graph.stat().st_mtime_ns
    np.testing.assert_allclose(load(folder, precision=policy).encode_texts(tokens), vectors, atol=1e-5)
    assert graph.stat().st_mtime_ns == before


@pytest.mark.parametrize("family", ["roberta", "mpnet", "modernbert", "electra"])
def test_every_family_has_an_int8_form(load, text_folder, family) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra embedder[int8]")
    encoder = load(text_folder(family), precision="int8")
    tokens = encoder.prepare_texts(["one", "a longer text, of some more letters", "two", "x" * 90])
    vectors, exact = encoder.encode_texts(tokens), encoder.encode_texts_exact(tokens)
    assert np.einsum("nd,nd->n", vectors, exact).min() > 0.95


def test_a_tower_that_can_not_be_exported_is_refused(load, clip_folder) -> None:
    pytest.importorskip("onnxruntime", reason="needs the extra embedder[int8]")
    with pytest.raises(EncoderLoadError, match="one batch shape only"):
        load(clip_folder(), precision="int8")


def test_a_missing_library_is_named_with_its_extra(load, text_folder, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime.quantization", None)
    with pytest.raises(EncoderLoadError, match=r"pip install 'embedder\[int8\]'"):
        load(text_folder(), precision="int8")
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(EncoderLoadError, match=r"pip install 'embedder\[quantized\]'"):
        quantize_module(torch.nn.Linear(4, 4), "int4", torch.device("cpu"))


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
