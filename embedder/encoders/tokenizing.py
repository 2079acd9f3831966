"""Tokenizing: texts to token ids, as each model was trained to read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from tokenizers import Tokenizer

from embedder.encoders.base import Tokens


class TextTokenizer(Protocol):
    """What turns texts into token ids; may be called from any thread."""

    @property
    def max_tokens(self) -> int:
        """Texts are cut to this many tokens, special tokens included."""
        ...

    @property
    def pad_id(self) -> int:
        """The id that fills up a padded batch."""
        ...

    @property
    def identity(self) -> dict[str, str]:
        """What of this shapes a vector: a digest of the vocabulary and rules, the truncation, the prompt."""
        ...

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text, (t,) int32 with special tokens, cut to `max_tokens`."""
        ...


class RustTokenizer:
    """A tokenizer of the `tokenizers` library, used without any wrapper: several times faster than one with padding."""

    def __init__(self, backend: Tokenizer, *, max_tokens: int, pad_id: int, prompt: str = "") -> None:
        """Copy a tokenizer and set its truncation.

        Args:
            backend: the loaded tokenizer; it is left as it is.
            max_tokens: texts are cut to this many tokens, special tokens included.
            pad_id: the id that fills up a padded batch.
            prompt: put before each text.
        """
        self._backend: Tokenizer = Tokenizer.from_str(backend.to_str())
        self._backend.no_padding()
        self._backend.no_truncation()
        rules = json.dumps(json.loads(self._backend.to_str()), sort_keys=True)
        self._digest = hashlib.sha256(rules.encode()).hexdigest()
        self._backend.enable_truncation(max_tokens)
        self._prompt = prompt
        self.max_tokens = max_tokens
        self.pad_id = pad_id

    @property
    def identity(self) -> dict[str, str]:
        """Digest of the tokenizer's own canonical JSON, the truncation, the prompt."""
        return {
            "text.tokenizer": self._digest,
            "text.truncation": f"right,{self.max_tokens}",
            "text.prompt": self._prompt,
        }

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text, (t,) int32 with special tokens, cut to `max_tokens`."""
        prompted = [self._prompt + text for text in texts] if self._prompt else list(texts)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in self._backend.encode_batch_fast(prompted)]


class OpenClipTokenizer:
    """A tokenizer of open_clip: pads to the context, so what it padded is cut off again."""

    def __init__(self, tokenizer: Any, *, max_tokens: int) -> None:
        """Wrap what `open_clip.get_tokenizer` gave.

        Args:
            tokenizer: maps texts to (n, max_tokens) ids.
            max_tokens: the model's context length.
        """
        self._tokenizer = tokenizer
        inner = getattr(tokenizer, "tokenizer", None)
        self.max_tokens = max_tokens
        self.pad_id = int(inner.pad_token_id) if inner is not None else 0
        self._digest = _open_clip_digest(tokenizer, inner)

    @property
    def identity(self) -> dict[str, str]:
        """Digest of vocabulary, merges and cleaning, and the truncation."""
        return {
            "text.tokenizer": self._digest,
            "text.truncation": f"right,{self.max_tokens}",
            "text.prompt": "",
        }

    def tokenize(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the ids of each text, (t,) int32 with special tokens, cut to `max_tokens`."""
        padded = (
            self._tokenizer(list(texts), context_length=self.max_tokens).numpy().astype(np.int32)
        )  # (n, max_tokens)
        lengths = self.max_tokens - np.argmax((padded != self.pad_id)[:, ::-1], axis=1)
        return [row[:length] for row, length in zip(padded, lengths, strict=True)]


def _open_clip_digest(tokenizer: Any, inner: Any) -> str:
    if inner is None:
        vocabulary: object = sorted(tokenizer.encoder.items())
        rules: object = [[list(merge), rank] for merge, rank in tokenizer.bpe_ranks.items()]
    else:
        vocabulary, rules = None, json.loads(inner.backend_tokenizer.to_str())
    cleaning = getattr(getattr(tokenizer, "clean_fn", None), "__name__", "")
    mode = getattr(tokenizer, "tokenizer_mode", "")
    strip = getattr(tokenizer, "strip_sep_token", False)
    return hashlib.sha256(json.dumps([vocabulary, rules, cleaning, mode, strip], sort_keys=True).encode()).hexdigest()
