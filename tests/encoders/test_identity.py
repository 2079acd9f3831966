"""The space digest: another one for everything that shapes a vector, the same for everything that does not."""

from __future__ import annotations

import json
import shutil

import pytest
import safetensors.torch
import torch

from embedder.encoders.identity import digest_config, digest_weights


def test_one_swapped_weight_under_the_same_name_is_another_space(load, text_folder) -> None:
    folder = text_folder()
    before = load(folder).info
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    name = "encoder.layer.2.output.dense.weight"
    weights[name][3, 5] += 1e-3
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    after = load(folder).info
    assert after.model_id == before.model_id
    assert after.space_digest != before.space_digest
    changed = {key for key in before.identity if before.identity[key] != after.identity[key]}
    assert changed == {"text.weights"}


@pytest.mark.parametrize(
    "change",
    [
        {"pooling": {"pooling_mode": "cls"}},
        {"dense": True},
        {"prompt": "query: "},
        {"max_tokens": 39},
    ],
    ids=str,
)
def test_each_setting_of_the_folder_is_part_of_the_space(load, sentence_folder, change: dict) -> None:
    plain = load(sentence_folder(name="plain")).info
    assert load(sentence_folder(name="changed", **change)).info.space_digest != plain.space_digest


def test_tokenizer_and_numerics_are_part_of_the_space(load, text_folder) -> None:
    folder = text_folder()
    first = load(folder, precision="fp32").info
    assert load(folder, precision="bf16").info.space_digest != first.space_digest
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["normalizer"] = None
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    second = load(folder, precision="fp32").info
    assert {key for key in first.identity if first.identity[key] != second.identity[key]} == {"text.tokenizer"}


def test_preprocessing_is_part_of_the_space(load, clip_folder) -> None:
    plain = load(clip_folder()).info
    squashed = load(clip_folder(name="squashed", preprocess={"resize_mode": "squash"})).info
    changed = {key for key in plain.identity if plain.identity[key] != squashed.identity[key]}
    assert "image.preprocessing" in changed
    assert "image.weights" not in changed


def test_the_place_of_a_folder_is_no_part_of_the_space(load, text_folder, tmp_path) -> None:
    folder = text_folder()
    copied = tmp_path / "elsewhere"
    shutil.copytree(folder, copied)
    config = json.loads((copied / "config.json").read_text())
    config |= {"_name_or_path": "somewhere", "transformers_version": "0.0.0"}
    (copied / "config.json").write_text(json.dumps(config))
    assert load(copied).info.space_digest == load(folder).info.space_digest


def test_weights_digest_covers_name_dtype_shape_and_bytes() -> None:
    ones = torch.ones(2, 3)
    digests = [
        digest_weights(weights)
        for weights in (
            {"a": ones},
            {"b": ones},
            {"a": ones.half()},
            {"a": ones.view(3, 2)},
            {"a": -ones},
            {"a": ones, "b": torch.empty(0)},
            {},
        )
    ]
    assert len(set(digests)) == len(digests)
    # Order and memory layout say nothing.
    shuffled = {"b": ones, "a": torch.arange(6.0).view(2, 3).t().contiguous().t()}
    assert digest_weights(shuffled) == digest_weights({"a": torch.arange(6.0).view(2, 3), "b": ones})


def test_config_digest_leaves_out_where_a_model_comes_from() -> None:
    config = {"hidden_size": 3, "transformers_version": "5", "_name_or_path": "x"}
    assert digest_config(config) == digest_config({"hidden_size": 3})
    assert digest_config(config) != digest_config(config | {"hidden_size": 4})
