"""Loads image-text encoders of open_clip: a named architecture, a folder, or the embedded default space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from embedder.encoders.identity import digest_config, digest_weights
from embedder.encoders.library_text import TransformersText
from embedder.encoders.open_clip_text import CausalClipText, OpenClipText
from embedder.encoders.pooling import PoolingMode
from embedder.encoders.text_folder import read_json
from embedder.encoders.tokenizing import OpenClipTokenizer, TextTokenizer
from embedder.encoders.towers import ImageModel, TextModel
from embedder.errors import EncoderLoadError
from embedder.media.preprocess import PixelTransform

# A vision transformer has one convolution, its patch embedding; hybrids have a few.
_FEW_CONVOLUTIONS = 4


def load_open_clip_folder(folder: Path) -> tuple[TextModel, ImageModel]:
    """Load the model of a folder with `open_clip_config.json`, in float32 on the CPU.

    Raises:
        EncoderLoadError: a file is missing, broken or not safetensors.
    """
    import open_clip

    config = read_json(folder / "open_clip_config.json")
    if not any(folder.glob("*.safetensors")):
        raise EncoderLoadError(
            f"{folder} holds no .safetensors file; pickled weights (.bin, .pt) are never opened: convert them first"
        )
    name = f"local-dir:{folder}"
    try:
        model = open_clip.create_model(name, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(name)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, SafetensorError) as error:
        raise EncoderLoadError(f"{folder} can't be loaded as an open_clip model: {error}") from error
    return from_open_clip(model, OpenClipTokenizer(tokenizer, max_tokens=_context(model)), digest_config(config))


def load_open_clip_name(architecture: str, pretrained: str) -> tuple[TextModel, ImageModel]:
    """Load a named architecture with weights that open_clip fetches by their tag, or with a .safetensors file.

    Args:
        architecture: one of `open_clip.list_models()`.
        pretrained: one of `open_clip.list_pretrained_tags_by_model(architecture)`, or the path of a .safetensors file.
    Raises:
        EncoderLoadError: a name is unknown, the hub can't be reached, or the weights are not safetensors.
    """
    import open_clip

    config = open_clip.get_model_config(architecture)
    if config is None:
        raise EncoderLoadError(
            f"open_clip knows no architecture {architecture!r}; `open_clip.list_models()` in Python lists them"
        )
    weights = Path(pretrained) if Path(pretrained).is_file() else _fetch_weights(architecture, pretrained)
    if weights.suffix != ".safetensors":
        raise EncoderLoadError(
            f"open_clip:{architecture}/{pretrained} has its weights in {weights.name}; only .safetensors files are "
            "opened: choose another tag, or convert the file and give its path in the tag's place"
        )
    try:
        model = open_clip.create_model(architecture, pretrained=pretrained, require_pretrained=True)
        tokenizer = open_clip.get_tokenizer(architecture)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, AssertionError, SafetensorError) as error:
        raise EncoderLoadError(f"open_clip:{architecture}/{pretrained} can't be loaded: {error}") from error
    return from_open_clip(model, OpenClipTokenizer(tokenizer, max_tokens=_context(model)), digest_config(config))


def from_open_clip(model: Any, tokenizer: TextTokenizer, config_digest: str) -> tuple[TextModel, ImageModel]:
    """Take an open_clip model apart into our two sides.

    Args:
        model: a `CLIP`, `CustomTextCLIP` or `CoCa` in float32 on the CPU, with its preprocessing configuration set.
        tokenizer: the model's own.
        config_digest: digest of its configuration.
    Raises:
        EncoderLoadError: the preprocessing is of a kind that is not supported, or the towers' vectors differ in length.
    """
    model.eval().requires_grad_(False)
    text = _text_model(model, tokenizer, config_digest)
    image = _image_model(model, config_digest)
    if text.dim != image.dim:
        raise EncoderLoadError(
            f"the text tower gives {text.dim} numbers and the image tower {image.dim}: no common space"
        )
    return text, image


def _text_model(model: Any, tokenizer: TextTokenizer, config_digest: str) -> TextModel:
    module, pooling, crops = _text_module(model)
    state = {name: tensor for name, tensor in module.state_dict().items() if ".visual." not in name}
    identity = {
        "text.architecture": f"open_clip.{type(model).__name__}",
        "text.config": config_digest,
        "text.weights": digest_weights(state),
        "text.pooling": pooling,
        "text.exit_layer": "last",
        **tokenizer.identity,
    }
    probe = torch.ones((1, tokenizer.max_tokens), dtype=torch.int64)
    dim = int(module(probe, probe.bool()).shape[-1])
    return TextModel(tokenizer=tokenizer, dim=dim, identity=identity, module=module.eval(), crops=crops)


def _text_module(model: Any) -> tuple[nn.Module, str, bool]:
    """Choose the forward for a text tower: its module, the pooling's name, and whether batches may be cropped."""
    from open_clip.hf_model import ClsLastHiddenStatePooler, HFTextEncoder, MeanPooler

    text = getattr(model, "text", None)
    if isinstance(text, HFTextEncoder):
        poolers: dict[type, PoolingMode] = {MeanPooler: "mean", ClsLastHiddenStatePooler: "cls"}
        pooling = poolers.get(type(text.pooler))
        if pooling is not None:
            return TransformersText(text.transformer, pooling, text.proj), pooling, True
        return OpenClipText(model), type(text.pooler).__name__, True
    if CausalClipText.fits(model):
        return CausalClipText(model), "end-of-text", True
    return OpenClipText(model), "open_clip", False


def _image_model(model: Any, config_digest: str) -> ImageModel:
    from open_clip.model import CLIP, CustomTextCLIP, get_model_preprocess_cfg

    transform, mean, std = _pixel_transform(get_model_preprocess_cfg(model))
    module = model.visual if isinstance(model, CLIP | CustomTextCLIP) else _WholeModelImage(model)
    identity = {
        "image.config": config_digest,
        "image.weights": digest_weights(model.visual.state_dict()),
        "image.preprocessing": f"{transform.identity},mean={mean},std={std}",
        "image.exit_layer": "last",
    }
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in module.modules())
    probe = torch.zeros((1, 3, transform.size, transform.size))
    return ImageModel(
        transform=transform,
        mean=mean,
        std=std,
        dim=int(module(probe).shape[-1]),
        identity=identity,
        module=module,
        convolutional=convolutions > _FEW_CONVOLUTIONS,
    )


class _WholeModelImage(nn.Module):
    """The image tower of a model whose `visual` alone does not give the vector."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        vectors: torch.Tensor = self.model.encode_image(pixels)
        return vectors


def _pixel_transform(
    config: dict[str, Any],
) -> tuple[PixelTransform, tuple[float, float, float], tuple[float, float, float]]:
    size = config["size"]
    sides = {int(side) for side in size} if isinstance(size, list | tuple) else {int(size)}
    interpolation, resize = config.get("interpolation", "bicubic"), config.get("resize_mode", "shortest")
    if (
        len(sides) != 1
        or interpolation not in ("bicubic", "bilinear")
        or resize not in ("shortest", "longest", "squash")
    ):
        raise EncoderLoadError(
            f"the model wants size={size}, interpolation={interpolation}, resize_mode={resize}; supported are squares, "
            "bicubic or bilinear, and shortest, longest or squash"
        )
    transform = PixelTransform(
        size=sides.pop(), resize_mode=resize, interpolation=interpolation, fill=int(config.get("fill_color", 0))
    )
    return transform, _per_channel(config["mean"]), _per_channel(config["std"])


def _per_channel(values: Any) -> tuple[float, float, float]:
    red, green, blue = (values, values, values) if isinstance(values, int | float) else values
    return float(red), float(green), float(blue)


def _context(model: Any) -> int:
    return int(model.context_length)


def _fetch_weights(architecture: str, tag: str) -> Path:
    import open_clip
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if tag not in tags:
        known = ", ".join(tags) or "none"
        raise EncoderLoadError(
            f"open_clip:{architecture} has no weights {tag!r}; its tags are {known}; or give a .safetensors file"
        )
    try:
        return Path(open_clip.download_pretrained(open_clip.get_pretrained_cfg(architecture, tag)))
    except (OSError, RuntimeError, ValueError, HfHubHTTPError, OfflineModeIsEnabled) as error:
        raise EncoderLoadError(
            f"the weights of open_clip:{architecture}/{tag} can't be fetched ({error}); "
            "fetch them where the model hub can be reached, and give the .safetensors file in the tag's place"
        ) from error
