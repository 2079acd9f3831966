"""Warm-up: a few batches before the first call, so that no caller pays for start-up and costs are known from the start."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from embedder.encoders.base import Encoder
from embedder.engine.cost_model import CostModel
from embedder_client.content_hash import Modality

_ROUNDS = 3
_SENTENCE = "understand content once and let many small task heads live on the shared vector of every text and picture"


def warm_up(encoder: Encoder, cost_model: CostModel) -> None:
    """Run batches of made-up contents through the encoder, and teach the cost model what they took.

    Nothing is stored, and the ledger does not count them.
    """
    if Modality.TEXT in encoder.info.modalities:
        texts = [" ".join([_SENTENCE] * (row + 1)) for row in range(8)]
        tokens = encoder.prepare_texts(texts)
        units = float(sum(len(row) for row in tokens))
        _learn(cost_model, Modality.TEXT, lambda: encoder.encode_texts(tokens), units=units, items=len(tokens))
    if Modality.IMAGE in encoder.info.modalities:
        size = encoder.info.image_size
        pixels = [np.full((3, size, size), 30 * row, np.uint8) for row in range(8)]
        _learn(cost_model, Modality.IMAGE, lambda: encoder.encode_images(pixels), units=len(pixels), items=len(pixels))


def _learn(cost_model: CostModel, modality: Modality, run: Callable[[], object], *, units: float, items: int) -> None:
    run()  # the first run pays for allocations and kernels, and says nothing of the next
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run()
        cost_model.learn_batch(modality, seconds=time.perf_counter() - start, units=units, items=items)
