"""Decides where a file is decoded: small plain JPEGs in this process, everything else in a worker's."""

from __future__ import annotations

from collections.abc import Generator

from embedder.media.decoding.job import Decoded, DecodeJob, Decoder
from embedder.media.jpeg_header import read_plain_jpeg


class RoutedDecoder:
    """Decodes a baseline JPEG of few pixels in the calling thread, and leaves the rest to another decoder.

    Such a file can cost neither time nor memory: one pass over its pixels, whose number its header tells. It is read by libjpeg-turbo
    alone, which is fuzzed without pause. Measured at 640 x 480 on an AMD EPYC, a worker costs 0.3 ms of processor time a file
    on top of 1.6.
    """

    def __init__(self, inline: Decoder, isolated: Decoder, *, max_inline_pixels: int) -> None:
        """Join two decoders.

        Args:
            inline: decodes here.
            isolated: decodes elsewhere.
            max_inline_pixels: largest width x height that is decoded here.
        """
        self._inline = inline
        self._isolated = isolated
        self._max_inline_pixels = max_inline_pixels

    def run(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        """Run a job; see `embedder.media.decoding.job.Decoder`."""
        plain = read_plain_jpeg(job.data) if job.kind == "image" else None
        is_cheap = plain is not None and plain.width * plain.height <= self._max_inline_pixels
        return (self._inline if is_cheap else self._isolated).run(job)
