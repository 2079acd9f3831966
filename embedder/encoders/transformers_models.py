"""Loads text encoders of the transformers library from a folder: safetensors only, no code of its own, no network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from tokenizers import Tokenizer, normalizers
from torch import nn

from embedder.encoders.identity import digest_config, digest_weights
from embedder.encoders.library_text import TransformersText
from embedder.encoders.text_folder import TextFolder, read_json, read_text_folder
from embedder.encoders.tokenizing import RustTokenizer
from embedder.encoders.towers import TextModel
from embedder.errors import EncoderLoadError

_ACTIVATIONS: dict[str, type[nn.Module]] = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}
# Parts that a checkpoint may lack or hold for training, and that no pooled hidden state passes through.
_UNUSED_WEIGHTS = re.compile(r"(^|\.)(pooler|position_ids|cls|lm_head|classifier|decoder)(\.|$)")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
)


def load_transformers_text(folder: Path) -> TextModel:
    """Load a text encoder in float32 on the CPU.

    Args:
        folder: a sentence-transformers folder, or a transformers folder with its tokenizer.
    Returns:
        The model; its module is a `TransformersText`.
    Raises:
        EncoderLoadError: a file is missing, broken or not safetensors, or the model is not a text encoder.
    """
    layout = read_text_folder(folder)
    transformer = _load_transformer(layout.transformer)
    width = int(transformer.config.hidden_size)
    head, dim = _load_dense(layout.dense, width)
    tokenizer = _load_tokenizer(layout, transformer.config)
    module = TransformersText(transformer, layout.pooling, head).eval().requires_grad_(False)
    identity = {
        "text.architecture": str(transformer.config.model_type),
        "text.config": digest_config(read_json(layout.transformer / "config.json")),
        "text.weights": digest_weights(module.state_dict()),
        "text.pooling": layout.pooling,
        "text.exit_layer": "last",
        **tokenizer.identity,
    }
    return TextModel(tokenizer=tokenizer, dim=dim, identity=identity, module=module)


def _load_transformer(folder: Path) -> Any:
    from transformers import AutoConfig, AutoModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if not any(folder.glob("*.safetensors")):
        raise EncoderLoadError(
            f"{folder} holds no .safetensors file; pickled weights (.bin, .pt) are never opened: convert them first"
        )
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        model, report = AutoModel.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError, SafetensorError) as error:
        raise EncoderLoadError(f"{folder} can't be loaded as a transformers model: {error}") from error
    missing = [name for name in report["missing_keys"] if not _UNUSED_WEIGHTS.search(name)]
    if missing or report["mismatched_keys"]:
        wrong = sorted(missing) or sorted(map(str, report["mismatched_keys"]))
        raise EncoderLoadError(
            f"{folder}: the weights do not fit config.json, {len(wrong)} tensors differ, such as {wrong[0]}"
        )
    if (
        model.main_input_name != "input_ids"
        or model.config.is_encoder_decoder
        or not hasattr(model.config, "hidden_size")
    ):
        raise EncoderLoadError(f"{folder} holds a {config.model_type} model, which is not a text encoder")
    # BERT's pooler is not part of a pooled vector, so neither of its identity.
    model.pooler = None
    return model


def _load_tokenizer(layout: TextFolder, config: Any) -> RustTokenizer:
    from transformers import AutoTokenizer

    # Without these files the library makes up a tokenizer that knows no word.
    if not any((layout.transformer / name).is_file() for name in _TOKENIZER_FILES):
        raise EncoderLoadError(
            f"{layout.transformer} holds no tokenizer; one of {', '.join(_TOKENIZER_FILES)} is wanted"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(layout.transformer, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise EncoderLoadError(f"{layout.transformer}: the tokenizer can't be loaded: {error}") from error
    backend: Tokenizer | None = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or tokenizer.pad_token_id is None:
        raise EncoderLoadError(f"{layout.transformer} needs a tokenizer.json with a padding token")
    if backend.get_vocab_size() > config.vocab_size:
        raise EncoderLoadError(
            f"{layout.transformer}: the tokenizer gives ids up to {backend.get_vocab_size() - 1}, "
            f"and the model has {config.vocab_size} rows"
        )
    backend = Tokenizer.from_str(backend.to_str())
    if layout.lowercase:
        backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), *filter(None, [backend.normalizer])])
    limits = [layout.max_tokens, tokenizer.model_max_length, _positions(config)]
    max_tokens = min(limit for limit in limits if limit is not None)
    return RustTokenizer(backend, max_tokens=max_tokens, pad_id=tokenizer.pad_token_id, prompt=layout.prompt)


def _positions(config: Any) -> int | None:
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None:
        return None
    # The RoBERTa family counts positions from pad_token_id + 1.
    offset = config.pad_token_id + 1 if config.model_type in _POSITIONS_BEHIND_PADDING else 0
    return int(positions) - offset


_POSITIONS_BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "xlm-roberta-xl"})


def _load_dense(folders: tuple[Path, ...], width: int) -> tuple[nn.Module, int]:
    layers: list[nn.Module] = []
    for folder in folders:
        config = read_json(folder / "config.json")
        activation = str(config.get("activation_function", "Tanh")).rsplit(".", 1)[-1]
        if activation not in _ACTIVATIONS or config.get("use_residual"):
            raise EncoderLoadError(
                f"{folder} uses {activation}; supported without residual are {', '.join(_ACTIVATIONS)}"
            )
        linear = nn.Linear(config["in_features"], config["out_features"], bias=config.get("bias", True))
        try:
            weights = safetensors.torch.load_file(folder / "model.safetensors")
            linear.load_state_dict({name.removeprefix("linear."): tensor.float() for name, tensor in weights.items()})
        except (OSError, RuntimeError, SafetensorError) as error:
            raise EncoderLoadError(f"{folder / 'model.safetensors'} can't be loaded: {error}") from error
        layers += [linear, _ACTIVATIONS[activation]()]
        width = linear.out_features
    return (nn.Sequential(*layers) if layers else nn.Identity()), width
