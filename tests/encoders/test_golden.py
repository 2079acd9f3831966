"""Golden items: an encoder that does not give the vectors that it should is refused."""

from __future__ import annotations

import numpy as np
import pytest
import safetensors.numpy

from embedder.encoders.golden import check_golden
from embedder.errors import GoldenMismatch
from embedder_client.content_hash import Modality


def test_every_kind_of_encoder_passes(encoder, tmp_path) -> None:
    fresh = check_golden(encoder, tmp_path / "golden")
    again = check_golden(encoder, tmp_path / "golden")
    assert fresh.min_cosine >= 0.9999
    assert fresh.seconds > 0
    assert fresh.items == (8 if Modality.IMAGE in encoder.info.modalities else 6)
    assert again.items == 2 * fresh.items
    assert [file.name for file in (tmp_path / "golden").iterdir()] == [f"{encoder.info.space_digest.hex()}.safetensors"]
    assert check_golden(encoder, None).items == fresh.items


def test_an_encoder_that_leaves_its_float32_vectors_is_refused(load, text_folder, monkeypatch) -> None:
    encoder = load(text_folder(), precision="fp32")
    embed = encoder._text.tower.embed
    monkeypatch.setattr(encoder._text.tower, "embed", lambda tokens: embed(tokens).roll(1, dims=0))
    with pytest.raises(GoldenMismatch, match=r"golden text \d has cosine .*in float32, alone; 0.9999 is wanted"):
        check_golden(encoder, None)


def test_a_vector_that_is_no_number_is_refused(load, text_folder, monkeypatch) -> None:
    encoder = load(text_folder(), precision="fp32")
    embed = encoder._text.tower.embed
    monkeypatch.setattr(encoder._text.tower, "embed", lambda tokens: embed(tokens) * np.nan)
    with pytest.raises(GoldenMismatch, match="cosine nan"):
        check_golden(encoder, None)


def test_vectors_of_an_earlier_start_that_differ_are_refused(load, text_folder, tmp_path) -> None:
    encoder = load(text_folder())
    check_golden(encoder, tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    stored = safetensors.numpy.load_file(file)
    safetensors.numpy.save_file({"text": stored["text"][::-1].copy()}, file)
    with pytest.raises(GoldenMismatch, match="stored in"):
        check_golden(encoder, tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a file of tensors"])
def test_stored_vectors_that_cannot_be_read_are_refused(load, text_folder, tmp_path, content: bytes) -> None:
    encoder = load(text_folder())
    (tmp_path / f"{encoder.info.space_digest.hex()}.safetensors").write_bytes(content)
    with pytest.raises(GoldenMismatch, match="delete the file"):
        check_golden(encoder, tmp_path)


def test_stored_vectors_of_other_items_are_refused(load, text_folder, tmp_path) -> None:
    encoder = load(text_folder())
    file = tmp_path / f"{encoder.info.space_digest.hex()}.safetensors"
    safetensors.numpy.save_file({"text": np.ones((2, 64), np.float32)}, file)
    with pytest.raises(GoldenMismatch, match="of other items"):
        check_golden(encoder, tmp_path)
