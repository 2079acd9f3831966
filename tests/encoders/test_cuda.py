"""What the CPU tests prove, on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from embedder.encoders.load import load_encoder
from embedder.encoders.precision_policy import PrecisionPolicy
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.media.limits import MediaLimits

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device"),
]
TEXTS = [*SAMPLE_TEXTS, *("letters " * count for count in range(1, 40))]
PACKED = ("bert", "roberta", "xlm-roberta", "camembert", "modernbert", "distilbert")


@pytest.fixture
def load_cuda() -> Iterator[Callable[..., TowerEncoder]]:
    opened: list[TowerEncoder] = []

    def load_one(setting: Path, **settings: Any) -> TowerEncoder:
        opened.append(load_encoder(str(setting), device="cuda:0", limits=MediaLimits(), **settings))
        return opened[-1]

    yield load_one
    for encoder in opened:
        encoder.close()


@pytest.mark.parametrize("family", PACKED)
def test_packed_vectors_stay_near_the_librarys(load_cuda, text_folder, family) -> None:
    encoder = load_cuda(text_folder(family), precision="bf16")
    assert encoder.info.numerics == "bf16-packed"
    tokens = encoder.prepare_texts(TEXTS)
    assert np.einsum("nd,nd->n", encoder.encode_texts(tokens), encoder.encode_texts_exact(tokens)).min() > 0.999


@pytest.mark.parametrize("setting", ["fp32", "bf16", "fp16"])
def test_image_vectors_stay_near_the_librarys(load_cuda, clip_folder, setting) -> None:
    encoder = load_cuda(clip_folder(), precision=setting)
    pixels = [encoder.prepare_image(sample_image())] * 3
    assert np.einsum("nd,nd->n", encoder.encode_images(pixels), encoder.encode_images_exact(pixels)).min() > 0.999


@pytest.mark.parametrize("family", ["bert", "mpnet", "modernbert"])
def test_deterministic_texts_keep_every_bit(load_cuda, text_folder, family) -> None:
    encoder = load_cuda(text_folder(family), precision=PrecisionPolicy(setting="bf16", deterministic=True))
    tokens = encoder.prepare_texts(TEXTS)
    alone = np.concatenate([encoder.encode_texts([ids]) for ids in tokens])
    order = np.random.default_rng(3).permutation(len(tokens))
    vectors = encoder.encode_texts([tokens[index] for index in order])
    np.testing.assert_array_equal(vectors.view(np.uint32), alone[order].view(np.uint32))


@pytest.mark.parametrize("setting", ["fp8", "int8", "int4"])
def test_few_bits_by_torchao_are_classes_of_their_own(load_cuda, text_folder, setting) -> None:
    pytest.importorskip("torchao", reason="needs the extra embedder[quantized]")
    encoder = load_cuda(text_folder(), precision=setting)
    assert encoder.info.numerics == f"{setting}-torchao"
    tokens = encoder.prepare_texts(TEXTS)
    assert np.einsum("nd,nd->n", encoder.encode_texts(tokens), encoder.encode_texts_exact(tokens)).min() > 0.9
