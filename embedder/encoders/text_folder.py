"""What a folder of a text encoder says about itself: where its parts lie, how it pools, where it cuts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedder.encoders.pooling import POOLING_MODES, PoolingMode
from embedder.errors import EncoderLoadError

_POOLING_NAMES: dict[str, PoolingMode] = {
    "mean": "mean",
    "pooling_mode_mean_tokens": "mean",
    "cls": "cls",
    "pooling_mode_cls_token": "cls",
    "max": "max",
    "pooling_mode_max_tokens": "max",
    "lasttoken": "last",
    "pooling_mode_lasttoken": "last",
}


@dataclass(frozen=True, slots=True)
class TextFolder:
    """The layout of one text encoder.

    Attributes:
        transformer: folder of the transformers model and its tokenizer.
        pooling: how hidden states become one vector.
        dense: folders of the linear layers behind the pooling, in order.
        max_tokens: the cut that the folder sets; None leaves it to the tokenizer and the architecture.
        lowercase: whether texts are lowercased before the tokenizer's own rules.
        prompt: put before each text.
    """

    transformer: Path
    pooling: PoolingMode
    dense: tuple[Path, ...] = ()
    max_tokens: int | None = None
    lowercase: bool = False
    prompt: str = ""


def read_text_folder(folder: Path) -> TextFolder:
    """Read the layout of a sentence-transformers or a plain transformers folder.

    Args:
        folder: with `modules.json` (sentence-transformers) or only `config.json` (transformers: mean pooling).
    Raises:
        EncoderLoadError: a part is missing, or of a kind that is not supported.
    """
    modules_file = folder / "modules.json"
    if not modules_file.is_file():
        return TextFolder(transformer=folder, pooling="mean")
    transformer, pooling = folder, None
    dense: list[Path] = []
    for module in read_json(modules_file):
        kind, path = str(module["type"]).rsplit(".", 1)[-1], folder / str(module["path"])
        if kind == "Transformer":
            transformer = path
        elif kind == "Pooling":
            pooling = _pooling_mode(read_json(path / "config.json"), path)
        elif kind == "Dense":
            dense.append(path)
        elif kind != "Normalize":
            raise EncoderLoadError(
                f"{modules_file} names a module of type {module['type']!r}; "
                "supported are Transformer, Pooling, Dense and Normalize"
            )
    if pooling is None:
        raise EncoderLoadError(f"{modules_file} names no Pooling module; one of {', '.join(POOLING_MODES)} is needed")
    settings_file = transformer / "sentence_bert_config.json"
    settings = read_json(settings_file) if settings_file.is_file() else {}
    return TextFolder(
        transformer=transformer,
        pooling=pooling,
        dense=tuple(dense),
        max_tokens=settings.get("max_seq_length"),
        lowercase=bool(settings.get("do_lower_case", False)),
        prompt=_default_prompt(folder),
    )


def read_json(path: Path) -> Any:
    """Read a JSON file; raises EncoderLoadError with its path when it is missing or broken."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EncoderLoadError(f"{path} is missing; copy the model's whole folder") from error
    except (OSError, ValueError) as error:
        raise EncoderLoadError(f"{path} can't be read: {error}") from error


def _pooling_mode(config: dict[str, Any], path: Path) -> PoolingMode:
    named = config.get("pooling_mode")
    if named is None:
        named = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    names = [named] if isinstance(named, str) else list(named)
    if len(names) != 1 or names[0] not in _POOLING_NAMES:
        raise EncoderLoadError(f"{path} pools by {names}; supported is exactly one of mean, cls, max, lasttoken")
    if config.get("include_prompt", True) is False:
        raise EncoderLoadError(
            f"{path} leaves the prompt out of the pooling (include_prompt=false), which is not supported"
        )
    return _POOLING_NAMES[names[0]]


def _default_prompt(folder: Path) -> str:
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return ""
    config = read_json(path)
    name = config.get("default_prompt_name")
    prompts: dict[str, str] = config.get("prompts") or {}
    if name is None:
        return ""
    if name not in prompts:
        raise EncoderLoadError(f"{path} names the default prompt {name!r}, and its prompts are {sorted(prompts)}")
    return prompts[name]
