"""Loads the embedded default space."""

from __future__ import annotations

from dataclasses import asdict

from tokenizers import Tokenizer

from embedder.encoders.default_space.model import DIM, MAX_TOKENS, PREPROCESS, build_model, text_model_folder
from embedder.encoders.identity import digest_config
from embedder.encoders.open_clip_models import from_open_clip
from embedder.encoders.tokenizing import RustTokenizer
from embedder.encoders.towers import ImageModel, TextModel


def load_default() -> tuple[TextModel, ImageModel]:
    """Load the embedded image-text encoder, in float32 on the CPU.

    Raises:
        EncoderLoadError: a package's weights are missing or damaged.
    """
    backend = Tokenizer.from_file(str(text_model_folder() / "tokenizer.json"))
    tokenizer = RustTokenizer(backend, max_tokens=MAX_TOKENS, pad_id=0)
    config = {"name": "default", "dim": DIM, "preprocess": asdict(PREPROCESS)}
    return from_open_clip(build_model(), tokenizer, digest_config(config))
