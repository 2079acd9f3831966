"""The embedded default space: text vectors, names of photographs, and the shipped files."""

from __future__ import annotations

import copy
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import skimage
import torch
from open_clip.model import CustomTextCLIP
from tokenizers import Tokenizer
from torch.nn import functional
from transformers import AutoModel

from embedder.encoders.default_space import model as default_model
from embedder.encoders.default_space.evaluate import Captioned, hold_out, measure_retrieval
from embedder.encoders.default_space.features import embed_texts
from embedder.encoders.default_space.fit import CaptionedFeatures, HeadSettings, ImageClasses, fit_head
from embedder.encoders.default_space.head_file import read_head, write_head
from embedder.encoders.default_space.model_card import render_card
from embedder.encoders.default_space.photographs import LABELS
from embedder.encoders.identity import digest_weights
from embedder.errors import EncoderLoadError
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

FOLDER = Path(default_model.__file__).parent
TEXTS = ["a cat", "A cup of coffee on a wooden table.", "Die Katze schläft.", "word " * 400]


@pytest.fixture(scope="module")
def model() -> CustomTextCLIP:
    return default_model.build_model()


@pytest.fixture(scope="module")
def classifier(model: CustomTextCLIP) -> dict[str, torch.Tensor]:
    state = model.visual.head.state_dict()
    return {name: state[name] for name in ("class_weight", "class_bias")}


@pytest.fixture(scope="module")
def metrics() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((FOLDER / "metrics.json").read_text())
    return loaded


def test_text_vectors_equal_plain_minilm(model: CustomTextCLIP) -> None:
    folder = default_model.text_model_folder()
    plain = AutoModel.from_pretrained(folder, local_files_only=True).eval()
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(default_model.MAX_TOKENS)
    tokenizer.no_padding()
    vectors = embed_texts(model, TEXTS)
    for text, vector in zip(TEXTS, vectors, strict=True):
        ids = torch.tensor([tokenizer.encode(text).ids])
        with torch.inference_mode():
            expected = functional.normalize(plain(input_ids=ids).last_hidden_state.mean(dim=1), dim=1)[0]
        assert float(vector @ expected) >= 0.99999
        assert float(vector.norm()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("file", "label"), [("chelsea.png", "a cat"), ("coffee.png", "a cup of coffee"), ("rocket.jpg", "a rocket")]
)
def test_photographs_are_named_right_among_twenty_labels(model: CustomTextCLIP, file: str, label: str) -> None:
    data = (Path(skimage.__file__).parent / "data" / file).read_bytes()
    pixels = PixelTransform(default_model.PREPROCESS.size).prepare(data, MediaLimits())
    with torch.inference_mode():
        image = model.encode_image(torch.from_numpy(pixels)[None].float() / 127.5 - 1, normalize=True)
    assert len(set(LABELS)) == 20
    assert image.shape == (1, default_model.DIM)
    assert LABELS[int((image @ embed_texts(model, LABELS).T).argmax())] == label


def test_building_twice_gives_the_same_weights(model: CustomTextCLIP) -> None:
    assert digest_weights(model.state_dict()) == digest_weights(default_model.build_model().state_dict())


def test_model_is_frozen_and_in_eval_mode(model: CustomTextCLIP) -> None:
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(module.training for module in model.modules())


def test_image_head_stays_in_float32_when_the_model_leaves_it(model: CustomTextCLIP) -> None:
    features = torch.rand(8, default_model.IMAGE_FEATURES, generator=torch.Generator().manual_seed(0))
    halved = copy.deepcopy(model.visual.head).to(torch.bfloat16)
    assert torch.equal(halved(features), model.visual.head(features))


def test_shipped_head_is_small_and_finite() -> None:
    assert default_model.HEAD_FILE.stat().st_size < 8_000_000
    assert all(bool(value.isfinite().all()) for value in read_head(default_model.HEAD_FILE).values())


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape"])
def test_head_that_does_not_fit_is_refused(tmp_path: Path, classifier: dict[str, torch.Tensor], spoil: str) -> None:
    tensors = safetensors.torch.load_file(default_model.HEAD_FILE)
    if spoil == "missing":
        del tensors["class_vectors"]
    elif spoil == "unknown":
        tensors["stranger"] = torch.zeros(1)
    else:
        tensors["feature_mean"] = torch.zeros(3)
    safetensors.torch.save_file(tensors, tmp_path / "head.safetensors")
    with pytest.raises(EncoderLoadError, match=r"does not fit ImageHead"):
        default_model.read_image_head(tmp_path / "head.safetensors", classifier)


def test_broken_head_file_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "head.safetensors").write_bytes(b"no tensors")
    with pytest.raises(EncoderLoadError, match=r"default_space\.train"):
        default_model.read_image_head(tmp_path / "head.safetensors", {})


def test_metrics_are_of_the_shipped_head(metrics: dict[str, Any]) -> None:
    shipped = default_model.HEAD_FILE.read_bytes()
    assert metrics["shipped"]["sha256"] == hashlib.sha256(shipped).hexdigest()
    assert metrics["shipped"]["bytes"] == len(shipped)


def test_model_card_is_what_the_metrics_say(metrics: dict[str, Any]) -> None:
    assert (FOLDER / "MODEL_CARD.md").read_text() == render_card(metrics)


def test_fit_finds_the_captions_it_was_taught_and_survives_its_file(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(60, 32, generator=generator)
    vectors = functional.normalize(torch.randn(60, 16, generator=generator), dim=1)
    classes = ImageClasses(
        {"class_weight": torch.randn(5, 32, generator=generator), "class_bias": torch.zeros(5)},
        functional.normalize(torch.randn(5, 16, generator=generator), dim=1),
    )
    head = fit_head(
        CaptionedFeatures(features, vectors, torch.ones(60)), classes, HeadSettings(ridge=1e-3, components=32)
    )
    assert measure_retrieval(head, Captioned(features, vectors))["image_to_text_r1"] > 0.95
    write_head(head.state_dict(), tmp_path / "head.safetensors")
    before = functional.normalize(head(features), dim=1)
    head.load_state_dict(read_head(tmp_path / "head.safetensors") | dict(classes.classifier))
    assert float((before * functional.normalize(head(features), dim=1)).sum(dim=1).min()) > 0.99


def test_held_out_captions_are_distinct_and_repeat_with_the_seed() -> None:
    keys = [f"caption {index // 2}" for index in range(400)]
    choice = hold_out(keys, range(300), seed=3)
    assert choice == hold_out(keys, range(300), seed=3)
    assert len(choice.keys) == len(choice.test) == 100
    assert {keys[index] for index in choice.test} == choice.keys
    assert max(choice.test) < 300
