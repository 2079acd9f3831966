"""Served images stay near what the library's own preprocessing gives, over photographs of many sizes and formats."""

from __future__ import annotations

from embedder.encoders.default_space.photographs import packaged_photographs
from embedder.encoders.default_space.preparation import photograph_files, preparation_cosines
from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits


def test_vectors_of_photographs_stay_within_0_999_of_the_reference() -> None:
    encoder = load_encoder("default", device="cpu", limits=MediaLimits())
    files = list(photograph_files(packaged_photographs()[:8]))
    try:
        cosines = preparation_cosines(encoder, files)
    finally:
        encoder.close()
    assert len(cosines) == 56
    assert cosines.min() >= 0.999
