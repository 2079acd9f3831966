"""The unshared road, really run: the same encoder, once for each task, over a sample of the same articles."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedder.encoders.load import load_encoder
from embedder.media.limits import MediaLimits

_TEXTS_PER_BATCH = 16


@dataclass(frozen=True)
class Alternative:
    """What it took to encode a sample once for each task.

    Attributes:
        texts: size of the sample.
        tasks: how many tasks encoded it, each by itself.
        seconds: device seconds in the encoder, all tasks together, tokenizing left out on both roads; on a processor they are CPU
            seconds of all cores, as in the savings report, so that neighbours on the machine do not count.
    """

    texts: int
    tasks: int
    seconds: float

    @property
    def seconds_per_encode(self) -> float:
        """Measured seconds of one encode."""
        return self.seconds / (self.texts * self.tasks)


def run_alternative(texts: Sequence[str], *, tasks: int, on_task: Callable[[], None]) -> Alternative:
    """Encode a sample of texts once for each task, with the service's own encoder, numerics and batching."""
    encoder = load_encoder("default", limits=MediaLimits())
    tokens = encoder.prepare_texts(texts)
    batches = [tokens[start : start + _TEXTS_PER_BATCH] for start in range(0, len(tokens), _TEXTS_PER_BATCH)]
    encoder.encode_texts(batches[0])
    clock = time.process_time if encoder.info.device == "cpu" else time.perf_counter
    seconds = 0.0
    for _ in range(tasks):
        start = clock()
        for batch in batches:
            encoder.encode_texts(batch)
        seconds += clock() - start
        on_task()
    encoder.close()
    return Alternative(texts=len(texts), tasks=tasks, seconds=seconds)
