"""Small models with random weights, written to folders as their libraries write them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from embedder.encoders.load import load_encoder
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.media.limits import MediaLimits

SPECIAL = ("<pad>", "<cls>", "<sep>", "<unk>")
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,"
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 96,
    "vocab_size": len(SPECIAL) + len(LETTERS),
    "pad_token_id": 0,
}
FAMILIES: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**SIZES),
    "roberta": lambda: transformers.RobertaConfig(**SIZES),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**SIZES),
    # MPNet's padding token is 1 whatever its configuration says.
    "mpnet": lambda: transformers.MPNetConfig(**SIZES | {"pad_token_id": 1}),
    "modernbert": lambda: transformers.ModernBertConfig(
        **SIZES,
        max_position_embeddings=2048,
        local_attention=16,
        global_attn_every_n_layers=2,
        cls_token_id=1,
        sep_token_id=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "camembert": lambda: transformers.CamembertConfig(**SIZES),
    "distilbert": lambda: transformers.DistilBertConfig(
        dim=64, n_layers=3, n_heads=4, hidden_dim=96, vocab_size=SIZES["vocab_size"], pad_token_id=0
    ),
    # No packed forward: the library's own serves it.
    "electra": lambda: transformers.ElectraConfig(**SIZES, embedding_size=64),
}


def letter_tokenizer(first: tuple[str, ...] = SPECIAL) -> Tokenizer:
    """A tokenizer of letters, between <cls> and <sep>."""
    vocabulary = {token: number for number, token in enumerate((*first, *LETTERS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.Split("", behavior="isolated")]
    )
    edges = [(token, vocabulary[token]) for token in ("<cls>", "<sep>")]
    tokenizer.post_processor = processors.TemplateProcessing("<cls> $A <sep>", special_tokens=edges)
    tokenizer.add_special_tokens(list(first))
    return tokenizer


def random_transformer(config: Any, *, seed: int = 0) -> Any:
    """A model whose biases and norms are not the zeros and ones of a fresh one, so that a forgotten one shows."""
    torch.manual_seed(seed)
    model = transformers.AutoModel.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "norm" in name.lower():
            torch.nn.init.normal_(parameter, mean=1.0, std=0.1)
    return model


def write_text_folder(folder: Path, family: str = "bert", *, seed: int = 0) -> Path:
    """Write a transformers text encoder of a family."""
    config = FAMILIES[family]()
    random_transformer(config, seed=seed).save_pretrained(folder)
    first = ("<cls>", "<pad>", "<sep>", "<unk>") if config.pad_token_id == 1 else SPECIAL
    letter_tokenizer(first).save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "model_max_length": 500}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_sentence_folder(
    folder: Path,
    *,
    pooling: dict[str, Any] | None = None,
    dense: bool = False,
    prompt: str | None = None,
    max_tokens: int = 40,
) -> Path:
    """Write a sentence-transformers folder: a BERT, a pooling, perhaps a dense layer and a prompt."""
    write_text_folder(folder)
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling")]
    kinds += [("2_Dense", "Dense")] if dense else []
    kinds.append(("3_Normalize", "Normalize"))
    modules = [
        {"idx": index, "name": str(index), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for index, (path, kind) in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": max_tokens}))
    (folder / "1_Pooling").mkdir()
    pooled = {"pooling_mode_mean_tokens": True} if pooling is None else pooling
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 64} | pooled))
    if dense:
        (folder / "2_Dense").mkdir()
        shape = {"in_features": 64, "out_features": 24, "activation_function": "torch.nn.modules.activation.Tanh"}
        (folder / "2_Dense" / "config.json").write_text(json.dumps(shape))
        linear = torch.nn.Linear(64, 24)
        weights = {"linear.weight": linear.weight.detach(), "linear.bias": linear.bias.detach()}
        safetensors.torch.save_file(weights, folder / "2_Dense" / "model.safetensors")
    if prompt is not None:
        settings = {"prompts": {"query": prompt}, "default_prompt_name": "query"}
        (folder / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return folder


def write_clip_folder(
    folder: Path, *, text: dict[str, Any] | None = None, preprocess: dict[str, Any] | None = None
) -> Path:
    """Write a small open_clip model; `text` overrides parts of its text configuration."""
    import open_clip
    from open_clip.model import CLIP, CustomTextCLIP

    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8, "head_width": 32}
    words = {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 2, "layers": 2} | (text or {})
    config: dict[str, Any] = {"embed_dim": 48, "vision_cfg": vision, "text_cfg": words, "custom_text": bool(text)}
    torch.manual_seed(0)
    model = (CustomTextCLIP if text else CLIP)(embed_dim=48, vision_cfg=dict(vision), text_cfg=dict(words))
    folder.mkdir()
    means = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    written = {"model_cfg": config, "preprocess_cfg": means | (preprocess or {})}
    (folder / "open_clip_config.json").write_text(json.dumps(written))
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "open_clip_model.safetensors")
    return folder


@pytest.fixture
def text_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a transformers text encoder of a family to a folder of its own, named by `name`."""

    def write(family: str = "bert", *, name: str = "model", **options: Any) -> Path:
        return write_text_folder(tmp_path / name, family, **options)

    return write


@pytest.fixture
def sentence_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a sentence-transformers folder, named by `name`."""

    def write(*, name: str = "sentences", **options: Any) -> Path:
        return write_sentence_folder(tmp_path / name, **options)

    return write


@pytest.fixture
def clip_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a small open_clip model to a folder, named by `name`."""

    def write(*, name: str = "clip", **options: Any) -> Path:
        return write_clip_folder(tmp_path / name, **options)

    return write


@pytest.fixture
def load() -> Iterator[Callable[..., TowerEncoder]]:
    """Load an encoder on the CPU and close it behind the test."""
    opened: list[TowerEncoder] = []

    def load_one(setting: str | Path, **settings: Any) -> TowerEncoder:
        encoder = load_encoder(str(setting), device="cpu", limits=MediaLimits(), **settings)
        opened.append(encoder)
        return encoder

    yield load_one
    for encoder in opened:
        encoder.close()


SETTINGS: dict[str, Callable[[Path], str | Path]] = {
    "text folder": lambda folder: write_text_folder(folder, "modernbert"),
    "unpacked text folder": lambda folder: write_text_folder(folder, "electra"),
    "sentence folder": lambda folder: write_sentence_folder(folder, dense=True),
    "clip folder": write_clip_folder,
    "default": lambda folder: "default",
}


@pytest.fixture(scope="session", params=SETTINGS)
def encoder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TowerEncoder]:
    """One encoder of each kind that can be loaded; shared by all tests."""
    folder = tmp_path_factory.mktemp("encoder") / "model"
    loaded = load_encoder(str(SETTINGS[request.param](folder)), device="cpu", limits=MediaLimits())
    yield loaded
    loaded.close()
