"""What the frozen towers make of pictures and texts, kept in a file so that it is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from open_clip.model import CustomTextCLIP
from tokenizers import Tokenizer
from torch import nn

from embedder.encoders.convolutions import fuse_convolutions
from embedder.encoders.default_space.model import IMAGE_FEATURES, MAX_TOKENS, PREPROCESS, text_model_folder
from embedder.errors import LimitExceeded
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

_BATCH = 32


def embed_texts(model: CustomTextCLIP, texts: Sequence[str]) -> torch.Tensor:
    """Embed texts as the service does; returns (n, 384) float32 unit vectors in input order."""
    tokenizer = Tokenizer.from_file(str(text_model_folder() / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(pad_id=0)
    vectors = torch.empty(len(texts), model.text.output_dim)
    # Texts of like length share a batch, so that little is padded.
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    for start in range(0, len(texts), _BATCH):
        chosen = order[start : start + _BATCH]
        ids = torch.tensor([encoding.ids for encoding in tokenizer.encode_batch([texts[index] for index in chosen])])
        with torch.inference_mode():
            vectors[chosen] = model.encode_text(ids, normalize=True)
    return vectors


def pool_images(trunk: nn.Module, paths: Sequence[Path], step: Callable[[int], None]) -> torch.Tensor:
    """Compute the image tower's pooled features of files, with the service's own preprocessing.

    Args:
        trunk: maps (n, 3, 224, 224) to (n, 1280).
        paths: image files.
        step: called with how many files were done since the last call.
    Returns:
        (n, 1280) float32; a row of NaN where a file is over the service's limits.
    """
    transform, limits = PixelTransform(PREPROCESS.size), MediaLimits()
    fused = fuse_convolutions(trunk, PREPROCESS.size)
    features = torch.full((len(paths), IMAGE_FEATURES), torch.nan)
    for start in range(0, len(paths), _BATCH):
        chosen, pixels = [], []
        for index in range(start, min(start + _BATCH, len(paths))):
            try:
                pixels.append(transform.prepare(paths[index].read_bytes(), limits))
            except LimitExceeded:
                continue
            chosen.append(index)
        if chosen:
            batch = torch.from_numpy(np.stack(pixels)).float() / 127.5 - 1
            with torch.inference_mode():
                features[chosen] = fused(batch.contiguous(memory_format=torch.channels_last)).float()
        step(min(_BATCH, len(paths) - start))
    return features


def keep(file: Path, names: Sequence[str], compute: Callable[[], torch.Tensor]) -> torch.Tensor:
    """Return a kept tensor where `file` holds it for exactly these names; else compute and keep it."""
    if file.exists():
        with np.load(file) as kept:
            if kept["names"].tolist() == list(names):
                return torch.from_numpy(kept["tensor"])
    tensor = compute()
    np.savez(file, names=np.array(names), tensor=tensor.numpy())
    return tensor
