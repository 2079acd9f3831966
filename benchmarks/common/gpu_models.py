"""The models of the GPU benchmark: well-known shapes with random weights, since speed does not hang on what weights hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from embedder.encoders.load import load_encoder
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.encoders.towers import ImageModel
from embedder.media.limits import MediaLimits
from embedder.media.preprocess import PixelTransform

_TOKENS = 512


@dataclass(frozen=True)
class Shape:
    """A transformer's size.

    Attributes:
        name: the model's usual name.
        width: of its hidden states.
        inner: of its feed-forward layers.
        layers: how many.
        heads: attention heads.
        image_size: height and width of its images; 0 for a text encoder.
        patch: height and width of an image's patches.
    """

    name: str
    width: int
    inner: int
    layers: int
    heads: int
    image_size: int = 0
    patch: int = 0

    @property
    def image_tokens(self) -> int:
        """Return how many patches an image has; a class token is not counted."""
        return (self.image_size // self.patch) ** 2

    def gflop(self, tokens: int) -> float:
        """Return the floating-point operations (in units of 10^9) of one item of so many tokens, without padding."""
        linear = 2 * (4 * self.width**2 + 2 * self.width * self.inner) * tokens
        return self.layers * (linear + 4 * self.width * tokens**2) / 1e9

    def products(self) -> tuple[tuple[int, int], ...]:
        """Return (inputs, outputs) of a layer's matrix products."""
        return (
            (self.width, 3 * self.width),
            (self.width, self.width),
            (self.width, self.inner),
            (self.inner, self.width),
        )


VIT_L = Shape("ViT-L/14", 1024, 4096, 24, 16, image_size=224, patch=14)
SIGLIP = Shape("SigLIP-so400m", 1152, 4304, 27, 16, image_size=384, patch=14)
BERT_L = Shape("BERT-large", 1024, 4096, 24, 16)


class _PooledVision(nn.Module):
    """A transformers vision tower that gives its pooled state."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Map (n, 3, size, size) to (n, width)."""
        pooled: torch.Tensor = self.tower(pixel_values=pixels).pooler_output
        return pooled


def image_model(shape: Shape) -> ImageModel:
    """Build a vision transformer with random weights, in float32 on the CPU."""
    import transformers

    sizes: dict[str, Any] = {
        "hidden_size": shape.width,
        "intermediate_size": shape.inner,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "image_size": shape.image_size,
        "patch_size": shape.patch,
    }
    if shape.name.startswith("SigLIP"):
        tower: Any = transformers.SiglipVisionModel(transformers.SiglipVisionConfig(**sizes))
    else:
        tower = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes))
    transform = PixelTransform(size=shape.image_size, resize_mode="squash", interpolation="bicubic", fill=0)
    return ImageModel(
        transform=transform,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        dim=shape.width,
        identity={"image.weights": f"random {shape.name}"},
        module=_PooledVision(tower).eval().requires_grad_(False),
        convolutional=False,
    )


def write_text_model(shape: Shape, folder: Path) -> Path:
    """Write a BERT with random weights and the default text model's tokenizer."""
    import transformers

    from embedder.encoders.default_space.model import text_model_folder

    config = transformers.BertConfig(
        hidden_size=shape.width,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        max_position_embeddings=_TOKENS,
    )
    transformers.BertModel(config).save_pretrained(folder)
    shutil.copy(text_model_folder() / "tokenizer.json", folder)
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": _TOKENS}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    return folder


def write_image_text_model(folder: Path, architecture: str = "ViT-L-14") -> Path:
    """Write a model of open_clip's with random weights; raises ImportError where open_clip is not installed."""
    import open_clip
    import safetensors.torch
    from open_clip.model import CLIP

    config = open_clip.get_model_config(architecture)
    model = CLIP(**config)
    folder.mkdir()
    means = {"mean": open_clip.OPENAI_DATASET_MEAN, "std": open_clip.OPENAI_DATASET_STD}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": means}))
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    safetensors.torch.save_file(weights, folder / "open_clip_model.safetensors")
    return folder


def load_text(folder: Path, device: str) -> TowerEncoder:
    """Load a written text model in bf16."""
    return load_encoder(str(folder), device=device, precision="bf16", limits=MediaLimits())
