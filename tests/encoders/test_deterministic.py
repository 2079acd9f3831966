"""Deterministic encoders give the same bits whatever shares a batch, in any order, of any size."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from embedder.encoders.precision_policy import PrecisionPolicy
from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder_client.content_hash import Modality

FOLDERS = {
    "bert": lambda text, clip: text("bert"),
    "mpnet": lambda text, clip: text("mpnet"),
    "modernbert": lambda text, clip: text("modernbert"),
    "library's own": lambda text, clip: text("electra"),
    "clip": lambda text, clip: clip(),
    "default": lambda text, clip: "default",
}
TEXTS = [*SAMPLE_TEXTS, *("letters " * count for count in range(1, 40)), "x" * 300]


@pytest.mark.parametrize("setting", ["fp32", "bf16"])
@pytest.mark.parametrize("folder", FOLDERS.values(), ids=FOLDERS.keys())
def test_texts_keep_every_bit(load, text_folder, clip_folder, folder, setting) -> None:
    policy = PrecisionPolicy(setting=setting, deterministic=True)
    encoder = load(folder(text_folder, clip_folder), precision=policy)
    assert encoder.info.numerics.endswith("-deterministic")
    tokens = encoder.prepare_texts(TEXTS)
    alone = np.concatenate([encoder.encode_texts([ids]) for ids in tokens])
    shuffled = np.random.default_rng(3).permutation(len(tokens))
    for size in (2, 7, len(tokens)):
        for order in (np.arange(len(tokens)), shuffled):
            parts = [order[start : start + size] for start in range(0, len(order), size)]
            vectors = np.concatenate([encoder.encode_texts([tokens[index] for index in part]) for part in parts])
            np.testing.assert_array_equal(vectors.view(np.uint32), alone[order].view(np.uint32))
    exact = encoder.encode_texts_exact(tokens)
    assert np.einsum("nd,nd->n", alone, exact).min() > (0.99999 if setting == "fp32" else 0.999)


@pytest.mark.parametrize("folder", ["clip", "default"])
def test_images_keep_every_bit(load, text_folder, clip_folder, folder) -> None:
    policy = PrecisionPolicy(setting="fp32", deterministic=True)
    encoder = load(FOLDERS[folder](text_folder, clip_folder), precision=policy)
    assert Modality.IMAGE in encoder.info.modalities
    picture = encoder.prepare_image(sample_image()).astype(np.int64)
    pixels = [((picture * (index + 3)) % 256).astype(np.uint8) for index in range(7)]
    alone = np.concatenate([encoder.encode_images([image]) for image in pixels])
    for order in (range(7), (6, 2, 4, 0, 1, 3, 5)):
        vectors = encoder.encode_images([pixels[index] for index in order])
        np.testing.assert_array_equal(vectors.view(np.uint32), alone[list(order)].view(np.uint32))


def test_bits_do_not_hang_on_the_number_of_threads(load, text_folder) -> None:
    folder, policy = text_folder(), PrecisionPolicy(setting="bf16", deterministic=True)
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2):
            encoder = load(folder, precision=policy, threads=threads)
            found.append(encoder.encode_texts(encoder.prepare_texts(TEXTS)))
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(found[0].view(np.uint32), found[1].view(np.uint32))


def test_it_is_a_numerics_class_of_its_own(load, text_folder) -> None:
    folder = text_folder()
    spaces = {
        load(folder, precision=PrecisionPolicy(setting="fp32", deterministic=fixed)).info.space_digest
        for fixed in (False, True)
    }
    assert len(spaces) == 2
