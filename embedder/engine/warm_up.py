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
    for items in _SIZES:
        if Modality.TEXT in encoder.info.modalities:
            tokens = encoder.prepare_texts([" ".join([_SENTENCE] * (row + 1)) for row in range(items)])
            units = float(sum(len(row) for row in tokens))
            _learn(cost_model, Modality.TEXT, partial(encoder.encode_texts, tokens), units=units, items=items)
        if Modality.IMAGE in encoder.info.modalities:
            size = encoder.info.image_size
            pixels = [np.full((3, size, size), 30 * row, np.uint8) for row in range(items)]
            _learn(cost_model, Modality.IMAGE, partial(encoder.encode_images, pixels), units=items, items=items)


def _learn(cost_model: CostModel, modality: Modality, run: Callable[[], object], *, units: float, items: int) -> None:
    run()  # the first run pays for allocations and kernels, and says nothing of the next
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run()
        cost_model.learn_batch(modality, seconds=time.perf_counter() - start, units=units, items=items)
