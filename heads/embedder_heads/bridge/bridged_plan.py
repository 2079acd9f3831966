"""A plan of heads of which some are of another space: their vectors go over a bridge first, once for each bridge."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embedder_heads.bridge.bridge_file import Bridge
from embedder_heads.head_file import Head
from embedder_heads.kinds import Floats
from embedder_heads.plan import HeadOutput, HeadPlan, PackedOutput


class BridgedPlan(HeadPlan):
    """Runs each head on the vectors of its own space: those of the call, or what a bridge makes of them."""

    def __init__(self, heads: Sequence[Head], bridges: Sequence[Bridge | None]) -> None:
        """Make heads ready.

        Args:
            heads: the heads.
            bridges: for each head what its vectors go over; None where they are of its space.
        """
        super().__init__(heads)
        self.bridges = tuple(bridges)
        over: dict[int, list[int]] = {}
        for number, bridge in enumerate(bridges):
            over.setdefault(id(bridge), []).append(number)
        self._groups = [
            (bridges[numbers[0]], numbers, HeadPlan([heads[number] for number in numbers])) for numbers in over.values()
        ]

    def run(self, vectors: Floats) -> list[HeadOutput]:
        """Score (n, dim) float32 vectors by each head."""
        outputs: dict[int, HeadOutput] = {}
        for bridge, numbers, plan in self._groups:
            mapped, seconds = _cross(bridge, vectors)
            for number, output in zip(numbers, plan.run(mapped), strict=True):
                outputs[number] = replace(output, device_seconds=output.device_seconds + seconds / len(numbers))
        return [outputs[number] for number in range(len(self.heads))]

    def run_packed(self, vectors: Floats) -> PackedOutput:
        """Score (n, dim) float32 vectors by every head, into one block."""
        scores = np.empty((self._rows[-1].stop if self._rows else 0, len(vectors)), np.float32)
        head_seconds = np.zeros(len(self.heads), np.float64)
        for bridge, numbers, plan in self._groups:
            mapped, seconds = _cross(bridge, vectors)
            output = plan.run_packed(mapped)
            start = 0
            for number in numbers:
                rows = self._rows[number]
                stop = start + rows.stop - rows.start
                scores[rows] = output.scores[start:stop]
                start = stop
            head_seconds[numbers] = output.head_seconds + seconds / len(numbers)
        return PackedOutput(scores, self.layout, self.layout_digest, head_seconds)


def _cross(bridge: Bridge | None, vectors: Floats) -> tuple[Floats, float]:
    """Return the vectors on the other side, and the seconds that took."""
    if bridge is None:
        return vectors, 0.0
    started = time.perf_counter()
    return bridge.apply(vectors), time.perf_counter() - started
