"""Where a file is decoded: what is small and plain here, what is not in a worker."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from embedder.media.decoding.job import DecodeJob, InlineDecoder
from embedder.media.decoding.routed import RoutedDecoder
from embedder.media.limits import MediaLimits

LIMITS = MediaLimits()


class CountingDecoder(InlineDecoder):
    """Decodes, and counts how often."""

    runs = 0

    def run(self, job):
        self.runs += 1
        return super().run(job)


@pytest.mark.parametrize(
    ("file_format", "options", "runs_here"),
    [
        ("JPEG", {}, 1),
        ("JPEG", {"quality": 100, "subsampling": 0, "comment": b"x" * 3000}, 1),
        ("JPEG", {"progressive": True}, 0),
        ("PNG", {}, 0),
        ("WebP", {}, 0),
        ("GIF", {}, 0),
    ],
)
def test_only_baseline_jpegs_are_decoded_here(image_file, photo, file_format, options, runs_here) -> None:
    here, there = CountingDecoder(), CountingDecoder()
    routed = RoutedDecoder(here, there, max_inline_pixels=photo.shape[0] * photo.shape[1])
    with closing(routed.run(DecodeJob("image", image_file(photo, file_format, **options), LIMITS))) as results:
        assert next(results).pixels.shape == photo.shape
    assert (here.runs, there.runs) == (runs_here, 1 - runs_here)


def test_a_larger_jpeg_goes_to_a_worker(image_file, photo) -> None:
    here, there = CountingDecoder(), CountingDecoder()
    routed = RoutedDecoder(here, there, max_inline_pixels=photo.shape[0] * photo.shape[1] - 1)
    with closing(routed.run(DecodeJob("image", image_file(photo, "JPEG"), LIMITS))) as results:
        next(results)
    assert (here.runs, there.runs) == (0, 1)


def test_memory_is_used_again_and_pictures_do_not_mix(image_file) -> None:
    decoder = InlineDecoder()
    for level in (10, 200):
        data = image_file(np.full((20, 30, 3), level, np.uint8), "PNG")
        with closing(decoder.run(DecodeJob("image", data, LIMITS))) as results:
            assert (next(results).pixels == level).all()
