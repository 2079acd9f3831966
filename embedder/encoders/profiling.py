"""Profiles an encoder: real batches under torch's profiler, as a trace that Perfetto and Chrome open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile, record_function

from embedder.encoders.base import Encoder
from embedder.encoders.measured_texts import measured_texts
from embedder.encoders.samples import sample_image
from embedder_client.content_hash import Modality

SPANS = ("embedder: prepare texts", "embedder: encode texts", "embedder: prepare images", "embedder: encode images")
"""What our own spans are called in the trace; an encoder of texts alone has the first two."""


@dataclass(frozen=True, slots=True)
class OperatorTime:
    """What one operator took, over all batches.

    Attributes:
        name: as the trace calls it.
        calls: how often it ran.
        self_s: seconds in it alone, not in what it called; on the device where there is one, else on all threads of the CPU.
        share: of all operators' seconds.
    """

    name: str
    calls: int
    self_s: float
    share: float


def profile_encoder(
    encoder: Encoder, trace: Path, *, batches: int, texts: int, images: int
) -> tuple[OperatorTime, ...]:
    """Prepare and encode batches, and write what ran when.

    Args:
        encoder: any; one batch of each medium runs unrecorded first.
        trace: the JSON file to write, in Chrome's trace format.
        batches: recorded batches of each medium.
        texts: texts in a batch.
        images: images in a batch.
    Returns:
        The operators, the longest first.
    Raises:
        OSError: the file can't be written.
    """
    prose = measured_texts()
    words = [prose[index % len(prose)] for index in range(texts)]
    pictures = [sample_image()] * images
    _run(encoder, words, pictures)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    # Chunks run on threads of the encoder's own.
    everywhere = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=activities, experimental_config=everywhere) as recorded:
        for _ in range(batches):
            _run(encoder, words, pictures)
    trace.parent.mkdir(parents=True, exist_ok=True)
    recorded.export_chrome_trace(str(trace))
    return _operators(recorded)


def _run(encoder: Encoder, texts: Sequence[str], images: Sequence[bytes]) -> None:
    if Modality.TEXT in encoder.info.modalities:
        with record_function(SPANS[0]):
            tokens = encoder.prepare_texts(texts)
        with record_function(SPANS[1]):
            encoder.encode_texts(tokens)
    if Modality.IMAGE in encoder.info.modalities:
        with record_function(SPANS[2]):
            pixels = [encoder.prepare_image(image) for image in images]
        with record_function(SPANS[3]):
            encoder.encode_images(pixels)


def _operators(recorded: profile) -> tuple[OperatorTime, ...]:
    times = []
    for event in recorded.key_averages():
        if event.key in SPANS:
            continue
        self_us = float(event.self_device_time_total or event.self_cpu_time_total)
        times.append((event.key, int(event.count), self_us / 1e6))
    total_s = sum(self_s for _, _, self_s in times) or 1.0
    longest = sorted(times, key=lambda time: -time[2])
    return tuple(OperatorTime(name, calls, self_s, self_s / total_s) for name, calls, self_s in longest)
