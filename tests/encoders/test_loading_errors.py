"""What can't be loaded is refused at start, in words that say what to do."""

from __future__ import annotations

import json

import pytest
import safetensors.torch
import torch

from embedder.encoders.hub import fetch_folder
from embedder.errors import EncoderLoadError


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("nowhere/at/all", "no folder and no known name; the forms are default, open_clip:"),
        ("hf:", "malformed"),
        ("hf:../../etc/passwd", "malformed"),
        ("open_clip:ViT-B-32", "malformed"),
        ("open_clip:ViT-Z-99/openai", "knows no architecture 'ViT-Z-99'"),
        ("open_clip:ViT-B-32/nothing", "has no weights 'nothing'; its tags are"),
    ],
)
def test_a_bad_name_is_refused(load, setting: str, message: str) -> None:
    with pytest.raises(EncoderLoadError, match=message):
        load(setting)


def test_an_empty_folder_is_refused(load, tmp_path) -> None:
    with pytest.raises(EncoderLoadError, match="holds no model"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"device": "tpu9"}, "device='tpu9'"),
        ({"device": "meta"}, "not supported"),
        ({"device": "cuda:77"}, "not there"),
        ({"precision": "int3"}, "one of auto, fp32, bf16, fp16"),
        ({"precision": "fp16", "device": "cpu"}, "needs a CUDA device"),
    ],
)
def test_a_bad_device_or_precision_is_refused(text_folder, settings: dict, message: str) -> None:
    from embedder.encoders.load import load_encoder
    from embedder.media.limits import MediaLimits

    with pytest.raises(EncoderLoadError, match=message):
        load_encoder(str(text_folder()), limits=MediaLimits(), **settings)


def test_a_hub_out_of_reach_says_what_to_do(load, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    with pytest.raises(EncoderLoadError, match=r"can't be reached .*no route to host.*`hf download org/model"):
        load("hf:org/model@main")


def test_each_refusal_of_the_hub_has_its_own_words(monkeypatch) -> None:
    import httpx2
    from huggingface_hub import errors

    response = httpx2.Response(404, request=httpx2.Request("GET", "https://hub.invalid"))
    refusals = {
        "is gated": errors.GatedRepoError("gated", response=response),
        "no revision 'v9'": errors.RevisionNotFoundError("revision", response=response),
        "no such repository": errors.RepositoryNotFoundError("repository", response=response),
    }
    for message, refusal in refusals.items():

        def refuse(*_: object, error: Exception = refusal, **__: object) -> None:
            raise error

        monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
        with pytest.raises(EncoderLoadError, match=message):
            fetch_folder("org/model", "v9")


def test_a_repository_of_the_hub_loads_as_its_folder_does(load, text_folder, monkeypatch) -> None:
    folder = text_folder()
    asked: dict[str, object] = {}

    def snapshot(repository: str, **settings: object) -> str:
        asked.update(settings, repository=repository)
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    fetched = load("hf:org/model@abc123")
    assert (asked["repository"], asked["revision"]) == ("org/model", "abc123")
    assert not any(pattern.endswith((".bin", ".py", ".pt")) for pattern in asked["allow_patterns"])
    assert fetched.info.space_digest == load(folder).info.space_digest


def test_open_clip_weights_out_of_reach_say_what_to_do(load, monkeypatch) -> None:
    import open_clip

    def unreachable(*_: object, **__: object) -> None:
        raise RuntimeError("offline")

    monkeypatch.setattr(open_clip, "download_pretrained", unreachable)
    with pytest.raises(EncoderLoadError, match=r"can't be fetched \(offline\).*give the \.safetensors file"):
        load("open_clip:ViT-B-32/openai")


def test_open_clip_weights_in_pickle_form_are_refused(load, monkeypatch, tmp_path) -> None:
    import open_clip

    monkeypatch.setattr(open_clip, "download_pretrained", lambda *_: str(tmp_path / "weights.pt"))
    with pytest.raises(EncoderLoadError, match=r"weights\.pt; only \.safetensors files are opened"):
        load("open_clip:ViT-B-32/openai")


def test_a_folder_of_pickles_is_refused(load, text_folder) -> None:
    folder = text_folder()
    torch.save(safetensors.torch.load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderLoadError, match="pickled weights"):
        load(folder)


def test_a_folders_own_code_is_never_run(load, text_folder) -> None:
    folder = text_folder()
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "mine"
    config["auto_map"] = {"AutoConfig": "mine.MineConfig", "AutoModel": "mine.MineModel"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(EncoderLoadError, match="can't be loaded as a transformers model"):
        load(folder)


def test_damaged_weights_are_refused(load, text_folder) -> None:
    folder = text_folder()
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(EncoderLoadError, match="can't be loaded"):
        load(folder)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", ["missing", "misshapen"])
def test_weights_that_do_not_fit_are_refused(load, text_folder, change: str) -> None:
    folder = text_folder()
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    name = next(name for name in weights if "layer.1" in name and name.endswith("weight"))
    if change == "missing":
        del weights[name]
    else:
        weights[name] = weights[name][:-1].clone()
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderLoadError, match=r"do not fit config\.json|can't be loaded"):
        load(folder)


def test_a_folder_without_a_tokenizer_is_refused(load, text_folder) -> None:
    folder = text_folder()
    (folder / "tokenizer.json").unlink()
    with pytest.raises(EncoderLoadError, match="holds no tokenizer"):
        load(folder)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(load, text_folder) -> None:
    folder = text_folder()
    rules = json.loads((folder / "tokenizer.json").read_text())
    rules["model"]["vocab"]["é"] = len(rules["model"]["vocab"])
    (folder / "tokenizer.json").write_text(json.dumps(rules))
    with pytest.raises(EncoderLoadError, match="gives ids up to 42, and the model has 42 rows"):
        load(folder)


def test_an_open_clip_folder_without_weights_is_refused(load, clip_folder) -> None:
    folder = clip_folder()
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(EncoderLoadError, match=r"holds no \.safetensors file"):
        load(folder)


def test_a_preprocessing_that_is_not_supported_is_refused(load, clip_folder) -> None:
    with pytest.raises(EncoderLoadError, match="interpolation=random"):
        load(clip_folder(preprocess={"interpolation": "random"}))
