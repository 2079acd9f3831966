"""Loads the encoder that a setting names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import torch

from embedder.encoders.base import EncoderInfo
from embedder.encoders.hub import fetch_folder
from embedder.encoders.identity import IDENTITY_VERSION
from embedder.encoders.precision import image_tower, text_tower
from embedder.encoders.precision_policy import PrecisionPolicy, PrecisionSetting
from embedder.encoders.tower_encoder import ImageSide, TextSide, TowerEncoder
from embedder.encoders.towers import ImageModel, TextModel
from embedder.errors import EncoderLoadError
from embedder.media.decoding.job import Decoder
from embedder.media.limits import MediaLimits
from embedder_client.content_hash import Modality

_FORMS = "default, open_clip:<architecture>/<pretrained>, hf:<repository>@<revision>, or the path of a folder"
_HF_SETTING = re.compile(r"hf:(?P<repository>[\w.-]+(/[\w.-]+)?)(@(?P<revision>[\w./-]+))?")
_OPEN_CLIP_SETTING = re.compile(r"open_clip:(?P<architecture>[^/]+)/(?P<pretrained>.+)")


def load_encoder(
    setting: str,
    *,
    device: str = "auto",
    precision: PrecisionSetting | PrecisionPolicy = "auto",
    limits: MediaLimits,
    threads: int = 0,
    decoder: Decoder | None = None,
) -> TowerEncoder:
    """Load an encoder: weights from safetensors only, no code from a model's folder.

    Args:
        setting: `default` (the embedded space), `open_clip:<architecture>/<pretrained>`, `hf:<repository>@<revision>`,
            or a folder that holds a sentence-transformers, transformers or open_clip model.
        device: `auto` (CUDA where there is one), `cpu`, `cuda`, `cuda:1`, ...
        precision: a precision's name, or all that is asked of the numerics; `auto` takes the fastest that keeps the tolerance.
        limits: applied to image files before they are decoded.
        threads: CPU threads of this process's forward passes; 0 leaves torch's own choice, one for each core.
        decoder: where image files are decoded; None: in the thread that prepares them, without limits on memory and time.
    Raises:
        EncoderLoadError: the setting is malformed or names nothing, or the model can't be loaded; it says what to do.
    """
    policy = precision if isinstance(precision, PrecisionPolicy) else PrecisionPolicy(setting=precision)
    if policy.setting not in get_args(PrecisionSetting):
        allowed = ", ".join(get_args(PrecisionSetting))
        raise EncoderLoadError(f"precision={policy.setting!r}; one of {allowed} is allowed")
    place = _resolve_device(device)
    if threads:
        torch.set_num_threads(threads)
    text_model, image_model = _load_models(setting)
    text = None if text_model is None else TextSide(text_model, text_tower(text_model, place, policy))
    image = None if image_model is None else ImageSide(image_model, image_tower(image_model, place, policy))
    info = _describe(setting, place, text, image)
    return TowerEncoder(info, limits, text=text, image=image, decoder=decoder)


def _load_models(setting: str) -> tuple[TextModel | None, ImageModel | None]:
    if setting == "default":
        from embedder.encoders.default_models import load_default

        return load_default()
    if named := _OPEN_CLIP_SETTING.fullmatch(setting):
        from embedder.encoders.open_clip_models import load_open_clip_name

        return load_open_clip_name(named["architecture"], named["pretrained"])
    if named := _HF_SETTING.fullmatch(setting):
        return _load_folder(fetch_folder(named["repository"], named["revision"]))
    if setting.startswith(("open_clip:", "hf:")):
        raise EncoderLoadError(f"encoder={setting!r} is malformed; the forms are {_FORMS}")
    folder = Path(setting).expanduser()
    if not folder.is_dir():
        raise EncoderLoadError(f"encoder={setting!r} is no folder and no known name; the forms are {_FORMS}")
    return _load_folder(folder)


def _load_folder(folder: Path) -> tuple[TextModel | None, ImageModel | None]:
    if (folder / "open_clip_config.json").is_file():
        from embedder.encoders.open_clip_models import load_open_clip_folder

        return load_open_clip_folder(folder)
    if (folder / "modules.json").is_file() or (folder / "config.json").is_file():
        from embedder.encoders.transformers_models import load_transformers_text

        return load_transformers_text(folder), None
    raise EncoderLoadError(
        f"{folder} holds no model: modules.json (sentence-transformers), config.json (transformers) or "
        "open_clip_config.json (open_clip) is wanted"
    )


def _resolve_device(device: str) -> torch.device:
    if device == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise EncoderLoadError(
            f"device={device!r} is no device; auto, cpu, cuda and cuda:<number> are allowed"
        ) from error
    if place.type not in ("cpu", "cuda"):
        raise EncoderLoadError(f"device={device!r} is not supported; auto, cpu, cuda and cuda:<number> are allowed")
    if place.type == "cuda" and (place.index or 0) >= torch.cuda.device_count():
        raise EncoderLoadError(
            f"device={device!r} is not there; this machine has {torch.cuda.device_count()} CUDA devices"
        )
    return place


def _describe(setting: str, device: torch.device, text: TextSide | None, image: ImageSide | None) -> EncoderInfo:
    identity = {"identity": IDENTITY_VERSION}
    numerics: list[str] = []
    modalities: set[Modality] = set()
    dim = 0
    if text is not None:
        identity |= text.model.identity | {"text.numerics": text.tower.numerics}
        numerics.append(text.tower.numerics)
        modalities.add(Modality.TEXT)
        dim = text.model.dim
    if image is not None:
        identity |= image.model.identity | {"image.numerics": image.tower.numerics}
        numerics.append(image.tower.numerics)
        modalities.add(Modality.IMAGE)
        dim = image.model.dim
    return EncoderInfo(
        model_id=setting,
        dim=dim,
        modalities=frozenset(modalities),
        max_tokens=0 if text is None else text.model.tokenizer.max_tokens,
        image_size=0 if image is None else image.model.transform.size,
        numerics="+".join(dict.fromkeys(numerics)),
        device=str(device),
        identity=identity,
    )
