"""Warm-up: a few batches before the first call, so that no caller pays for start-up and costs are known from the start."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import numpy as np

from embedder.encoders.base import Encoder
from embedder.engine.cost_model import CostModel
from embedder_client.content_hash import Modality

_ROUNDS = 2
_SIZES = (1, 8)  # a batch of one and a batch of several tell what a batch costs and what a unit does
_SENTENCE = "understand content once and let many small task heads live on the shared vector of every text and picture"


def warm_up(encoder: Encoder, cost_model: CostModel) -> None:
    """Run batches of made-up contents through the encoder, and teach the cost model what they took.

    Nothing is stored, and the ledger does not count them.
    """
    on_cpu = encoder.info.device == "cpu"  # nothing else runs yet, so the process's CPU time is the encoder's
    for items in _SIZES:
        if Modality.TEXT in encoder.info.modalities:
            tokens = encoder.prepare_texts([" ".join([_SENTENCE] * (row + 1)) for row in range(items)])
            units = float(sum(len(row) for row in tokens))
            learn = partial(cost_model.learn_batch, Modality.TEXT, units=units, items=items)
            _learn(learn, partial(encoder.encode_texts, tokens), on_cpu=on_cpu)
        if Modality.IMAGE in encoder.info.modalities:
            size = encoder.info.image_size
            pixels = [np.full((3, size, size), 30 * row, np.uint8) for row in range(items)]
            learn = partial(cost_model.learn_batch, Modality.IMAGE, units=items, items=items)
            _learn(learn, partial(encoder.encode_images, pixels), on_cpu=on_cpu)


def _learn(learn: Callable[..., None], run: Callable[[], object], *, on_cpu: bool) -> None:
    run()  # the first run pays for allocations and kernels, and says nothing of the next
    for _ in range(_ROUNDS):
        start, cpu_start = time.perf_counter(), time.process_time()
        run()
        seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu_start
        learn(seconds=seconds, device_s=cpu_s if on_cpu else None)
