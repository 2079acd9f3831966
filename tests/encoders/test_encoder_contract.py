"""The contract of every encoder, run against each kind that can be loaded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from embedder.encoders.samples import SAMPLE_TEXTS, sample_image
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.errors import EncoderError, OutOfDeviceMemory, UnsupportedModality
from embedder_client.content_hash import Modality


def neighbours(count: int) -> list[str]:
    generator = np.random.default_rng(7)
    letters = np.array(list("abcdefghij klmnopqrst uvwxyz "))
    return ["".join(generator.choice(letters, size=generator.integers(2, 180))) + "." for _ in range(count)]


def some_pixels(encoder: TowerEncoder, count: int) -> list[np.ndarray]:
    picture = encoder.prepare_image(sample_image()).astype(np.int64)
    return [((picture * (index + 3) + 11 * index) % 256).astype(np.uint8) for index in range(count)]


def test_info_describes_the_vectors(encoder: TowerEncoder) -> None:
    info = encoder.info
    assert len(info.space_digest) == 32
    assert info.device == "cpu"
    assert Modality.TEXT in info.modalities
    assert encoder.encode_texts(encoder.prepare_texts(["one"])).shape == (1, info.dim)
    assert (info.image_size > 0) == (Modality.IMAGE in info.modalities)
    assert all(isinstance(value, str) for value in info.identity.values())


def test_texts_become_unit_vectors_in_input_order(encoder: TowerEncoder) -> None:
    texts = [*neighbours(40), *SAMPLE_TEXTS]
    vectors = encoder.encode_texts(encoder.prepare_texts(texts))
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    backwards = encoder.encode_texts(encoder.prepare_texts(texts[::-1]))
    assert np.einsum("nd,nd->n", vectors, backwards[::-1]).min() >= 0.9999


def test_a_text_keeps_its_vector_among_63_others(encoder: TowerEncoder) -> None:
    tokens = encoder.prepare_texts([*neighbours(63), "the same text"])
    exact = encoder.encode_texts_exact(tokens[-1:])
    for batch in (tokens[-1:], tokens, tokens[-1:] + tokens[:-1]):
        vectors = encoder.encode_texts(batch)
        place = next(index for index, ids in enumerate(batch) if ids is tokens[-1])
        assert vectors[place] @ exact[0] >= 0.9999


def test_token_ids_are_int32_and_cut_to_the_limit(encoder: TowerEncoder) -> None:
    short, long = encoder.prepare_texts(["a", "word " * 5000])
    assert short.dtype == np.int32
    assert len(short) < 10
    assert len(long) == encoder.info.max_tokens


def test_no_items_are_no_vectors(encoder: TowerEncoder) -> None:
    assert encoder.encode_texts([]).shape == (0, encoder.info.dim)


def test_texts_are_prepared_alike_from_many_threads(encoder: TowerEncoder) -> None:
    texts = neighbours(20)
    expected = encoder.prepare_texts(texts)
    with ThreadPoolExecutor(8) as pool:
        for prepared in pool.map(encoder.prepare_texts, [texts] * 16):
            for ids, wanted in zip(prepared, expected, strict=True):
                np.testing.assert_array_equal(ids, wanted)


def test_images_become_unit_vectors_whatever_their_neighbours(encoder: TowerEncoder) -> None:
    if Modality.IMAGE not in encoder.info.modalities:
        with pytest.raises(UnsupportedModality, match="does not understand images"):
            encoder.prepare_image(sample_image())
        return
    pixels = some_pixels(encoder, 13)
    assert pixels[0].shape == (3, encoder.info.image_size, encoder.info.image_size)
    exact = encoder.encode_images_exact(pixels)
    vectors = encoder.encode_images(pixels)
    assert vectors.shape == (13, encoder.info.dim)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.einsum("nd,nd->n", vectors, exact).min() >= 0.9999
    assert encoder.encode_images(pixels[4:5])[0] @ exact[4] >= 0.9999
    assert encoder.encode_images([]).shape == (0, encoder.info.dim)


def test_loading_again_names_the_same_space(encoder: TowerEncoder, load) -> None:
    assert load(encoder.info.model_id).info == encoder.info


def test_closing_ends_the_threads(load, text_folder) -> None:
    before = set(threading.enumerate())
    encoder = load(text_folder())
    encoder.encode_texts(encoder.prepare_texts(neighbours(64)))
    started = set(threading.enumerate()) - before
    assert {thread.name.rsplit("_", 1)[0] for thread in started} == {"encoder-chunk"}
    encoder.close()
    assert not started & set(threading.enumerate())


@pytest.mark.parametrize(
    ("raised", "expected"), [(torch.OutOfMemoryError("full"), OutOfDeviceMemory), (RuntimeError("shape"), EncoderError)]
)
def test_failures_of_the_device_are_typed(load, text_folder, monkeypatch, raised, expected) -> None:
    encoder = load(text_folder(), precision="fp32")

    def fail(*_: object) -> None:
        raise raised

    tokens = encoder.prepare_texts(["one"])
    monkeypatch.setattr("embedder.encoders.packed_text.PackedText.embed", fail)
    with pytest.raises(expected):
        encoder.encode_texts(tokens)


def test_not_a_number_stays_visible_and_alone(load, text_folder) -> None:
    encoder = load(text_folder(), precision="fp32")
    tokens = encoder.prepare_texts(["aaa", "bbb", "ccc"])
    healthy = encoder.encode_texts(tokens)
    stack = encoder._text.tower._stack
    broken = stack.words.clone()
    broken[tokens[1][1]] = torch.nan
    object.__setattr__(stack, "words", broken)
    vectors = encoder.encode_texts(tokens)
    assert np.isnan(vectors[1]).all()
    np.testing.assert_allclose(vectors[[0, 2]], healthy[[0, 2]], atol=1e-5)
