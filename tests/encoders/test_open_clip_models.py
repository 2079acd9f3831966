"""open_clip models give open_clip's own vectors, whatever is left out of the work."""

from __future__ import annotations

import io
import json

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from embedder.encoders.open_clip_text import CausalClipText, OpenClipText
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image

TEXT_TOWERS = {
    "causal": None,
    "causal, custom, end-of-text by id": {"pool_type": "eos", "eos_id": 49_407},
    "both ways, last token": {"no_causal_mask": True, "pool_type": "last", "proj_bias": True},
}


@pytest.mark.parametrize("text", TEXT_TOWERS.values(), ids=TEXT_TOWERS.keys())
def test_text_vectors_equal_open_clips(load, clip_folder, text) -> None:
    folder = clip_folder(text=text)
    encoder = load(folder, precision="fp32")
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    texts = [*SAMPLE_TEXTS, "x" * 400, "wow !"]
    with torch.inference_mode():
        expected = model.encode_text(tokenizer(texts), normalize=True).numpy()
    np.testing.assert_allclose(encoder.encode_texts(encoder.prepare_texts(texts)), expected, atol=1e-5)


def test_only_a_causal_tower_is_cropped(load, clip_folder) -> None:
    modules = {
        name: load(clip_folder(name=f"clip {index}", text=text))._text.model
        for index, (name, text) in enumerate(TEXT_TOWERS.items())
    }
    assert [model.crops for model in modules.values()] == [True, True, False]
    assert isinstance(modules["causal"].module, CausalClipText)
    assert isinstance(modules["both ways, last token"].module, OpenClipText)


def test_image_vectors_equal_open_clips(load, clip_folder) -> None:
    folder = clip_folder()
    encoder = load(folder, precision="fp32")
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    with torch.inference_mode():
        pixels = preprocess(Image.open(io.BytesIO(sample_image())))[None]
        expected = model.eval().encode_image(pixels, normalize=True).numpy()
    # The fast resize rounds a pixel otherwise now and then.
    assert encoder.encode_images([encoder.prepare_image(sample_image())])[0] @ expected[0] > 0.9999


def test_a_named_architecture_loads_weights_from_a_file(load, tmp_path) -> None:
    import safetensors.torch

    name = "test-tiny"
    folder = tmp_path / "configs"
    folder.mkdir()
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    words = {"context_length": 77, "vocab_size": 49_408, "width": 64, "heads": 2, "layers": 1}
    (folder / f"{name}.json").write_text(json.dumps({"embed_dim": 32, "vision_cfg": vision, "text_cfg": words}))
    open_clip.add_model_config(folder)
    model = open_clip.create_model(name)
    weights = tmp_path / "weights.safetensors"
    safetensors.torch.save_file({key: value.contiguous() for key, value in model.state_dict().items()}, weights)
    encoder = load(f"open_clip:{name}/{weights}")
    assert encoder.info.dim == 32
    assert encoder.info.image_size == 32
