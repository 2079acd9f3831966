"""Text encoders from folders: each setting in the folder shapes the vector as its library says."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers

from embedder.errors import EncoderLoadError


def reference_hidden(folder, text: str, *, max_tokens: int = 500) -> torch.Tensor:
    """The transformers library's own hidden states of one text, (tokens, width)."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).eval()
    batch = tokenizer([text], return_tensors="pt", truncation=True, max_length=max_tokens)
    with torch.inference_mode():
        return model(input_ids=batch["input_ids"]).last_hidden_state[0]


def unit(vector: torch.Tensor) -> np.ndarray:
    return (vector / vector.norm()).numpy()


def encode(encoder, text: str) -> np.ndarray:
    return encoder.encode_texts(encoder.prepare_texts([text]))[0]


def test_a_transformers_folder_is_pooled_by_its_mean(load, text_folder) -> None:
    folder = text_folder("roberta")
    expected = unit(reference_hidden(folder, "Hello, World").mean(dim=0))
    np.testing.assert_allclose(encode(load(folder, precision="fp32"), "Hello, World"), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("pooling", "take"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, lambda hidden: hidden[0]),
        ({"pooling_mode": "cls"}, lambda hidden: hidden[0]),
        ({"pooling_mode": "max"}, lambda hidden: hidden.max(dim=0).values),
        ({"pooling_mode": "lasttoken"}, lambda hidden: hidden[-1]),
        ({"pooling_mode": ["mean"]}, lambda hidden: hidden.mean(dim=0)),
    ],
)
def test_the_folders_pooling_is_used(load, sentence_folder, pooling, take) -> None:
    folder = sentence_folder(pooling=pooling)
    expected = unit(take(reference_hidden(folder, "some words")))
    np.testing.assert_allclose(encode(load(folder, precision="fp32"), "some words"), expected, atol=1e-5)


def test_a_dense_layer_stands_behind_the_pooling(load, sentence_folder) -> None:
    import safetensors.torch

    folder = sentence_folder(dense=True)
    weights = safetensors.torch.load_file(folder / "2_Dense" / "model.safetensors")
    pooled = reference_hidden(folder, "some words").mean(dim=0)
    expected = unit(torch.tanh(weights["linear.weight"] @ pooled + weights["linear.bias"]))
    encoder = load(folder, precision="fp32")
    assert encoder.info.dim == 24
    np.testing.assert_allclose(encode(encoder, "some words"), expected, atol=1e-5)


def test_the_default_prompt_stands_before_each_text(load, sentence_folder) -> None:
    prompted = load(sentence_folder(name="prompted", prompt="find: "), precision="fp32")
    plain = load(sentence_folder(name="plain"), precision="fp32")
    np.testing.assert_allclose(encode(prompted, "a cat"), encode(plain, "find: a cat"), atol=1e-6)
    assert prompted.info.space_digest != plain.info.space_digest


def test_the_folders_cut_is_used(load, sentence_folder) -> None:
    folder = sentence_folder(max_tokens=12)
    encoder = load(folder, precision="fp32")
    assert encoder.info.max_tokens == 12
    expected = unit(reference_hidden(folder, "word " * 50, max_tokens=12).mean(dim=0))
    np.testing.assert_allclose(encode(encoder, "word " * 50), expected, atol=1e-5)


def test_texts_are_lowercased_where_the_folder_says_so(load, sentence_folder) -> None:
    folder = sentence_folder()
    settings = {"max_seq_length": 40, "do_lower_case": True}
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    before = load(folder).prepare_texts(["ABC"])[0]
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings))
    after = load(folder).prepare_texts(["ABC"])[0]
    assert before.tolist() != after.tolist() == load(folder).prepare_texts(["abc"])[0].tolist()


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ({"pooling_mode": "weightedmean"}, "supported is exactly one of mean, cls, max, lasttoken"),
        ({"pooling_mode_mean_tokens": True, "pooling_mode_max_tokens": True}, "supported is exactly one"),
        ({"pooling_mode": "mean", "include_prompt": False}, "include_prompt=false"),
    ],
)
def test_an_unknown_pooling_is_refused(load, sentence_folder, pooling, message) -> None:
    with pytest.raises(EncoderLoadError, match=message):
        load(sentence_folder(pooling=pooling))


def test_an_unknown_module_is_refused(load, sentence_folder) -> None:
    folder = sentence_folder()
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 9, "name": "9", "path": "9_LSTM", "type": "sentence_transformers.models.LSTM"})
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(EncoderLoadError, match="supported are Transformer, Pooling, Dense and Normalize"):
        load(folder)


def test_a_missing_part_is_named(load, sentence_folder) -> None:
    folder = sentence_folder()
    (folder / "1_Pooling" / "config.json").unlink()
    with pytest.raises(EncoderLoadError, match=r"1_Pooling/config\.json is missing"):
        load(folder)
