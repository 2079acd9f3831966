"""The heads of one list of references, stacked once and kept: what a call runs, one result a head or all in one block."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_heads.bridge.bridge_file import Bridge
from embedder_heads.forward import head_scores
from embedder_heads.head_file import Head, HeadManifest
from embedder_heads.kinds import Floats, HeadKind, Task
from embedder_heads.stack import LinearStack


@dataclass(frozen=True, slots=True, eq=False)
class HeadOutput:
    """What one head says about every vector of a call.

    Attributes:
        name: the head.
        version: the version that answered.
        kind: how it computes.
        task: what the scores mean.
        labels: names of the columns of `scores`.
        scores: (n, labels) float32; probabilities, or the numbers themselves for regression.
        thresholds: per label, the score from which it is given; empty unless the task is multi-label.
        device_seconds: measured time of the call's computation times this head's share of the multiplications.
    """

    name: str
    version: int
    kind: HeadKind
    task: Task
    labels: tuple[str, ...]
    scores: Floats
    thresholds: tuple[float, ...]
    device_seconds: float


@dataclass(frozen=True, slots=True, eq=False)
class PackedOutput:
    """What many heads say about every vector of a call, in one block.

    Attributes:
        scores: (labels of all heads, n) float32, head after head in the order of asking.
        layout: the heads' manifests, in that order.
        layout_digest: names the layout, 32 bytes: heads, versions, tasks, labels and thresholds.
        head_seconds: (heads,) float64, as `HeadOutput.device_seconds`.
    """

    scores: Floats
    layout: tuple[HeadManifest, ...]
    layout_digest: bytes
    head_seconds: npt.NDArray[np.float64]


class HeadPlan:
    """Heads of one space, made ready to run together.

    Attributes:
        bridges: for each head, the bridge that its vectors go over; empty where all are of the vectors' space.
    """

    bridges: tuple[Bridge | None, ...] = ()

    def __init__(self, heads: Sequence[Head]) -> None:
        """Stack heads; none is allowed."""
        self.heads = tuple(heads)
        self.names = tuple(head.manifest.name for head in heads)
        self.layout = tuple(head.manifest for head in heads)
        self.layout_digest = _digest(self.layout)
        self._linear = [number for number, head in enumerate(heads) if head.manifest.kind is HeadKind.LINEAR]
        self._others = [number for number, head in enumerate(heads) if head.manifest.kind is not HeadKind.LINEAR]
        self._stack = LinearStack([heads[number] for number in self._linear]) if self._linear else None
        ends = np.cumsum([len(manifest.labels) for manifest in self.layout], dtype=np.intp)
        starts = [0, *ends[:-1].tolist()]
        self._rows = [slice(start, end) for start, end in zip(starts, ends.tolist(), strict=False)]
        self._places = self._stack_places()
        sizes = np.array([sum(tensor.size for tensor in head.tensors.values()) for head in heads], np.float64)
        self._shares: npt.NDArray[np.float64] = sizes / max(float(sizes.sum()), 1.0)

    def run(self, vectors: Floats) -> list[HeadOutput]:
        """Score (n, dim) float32 vectors by each head."""
        started = time.perf_counter()
        scores: list[Floats | None] = [None] * len(self.heads)
        if self._stack is not None:
            for number, block in zip(self._linear, self._stack.scores(vectors), strict=True):
                scores[number] = block
        filled = [block if block is not None else head_scores(self.heads[i], vectors) for i, block in enumerate(scores)]
        seconds = ((time.perf_counter() - started) * self._shares).tolist()
        return [
            HeadOutput(m.name, m.version, m.kind, m.task, m.labels, block, m.thresholds, share)
            for m, block, share in zip(self.layout, filled, seconds, strict=True)
        ]

    def run_packed(self, vectors: Floats) -> PackedOutput:
        """Score (n, dim) float32 vectors by every head, into one block."""
        started = time.perf_counter()
        if self._stack is not None and self._places is None:  # every head is linear, and they lie as they were asked
            scores = self._stack.block(vectors)
        else:
            scores = np.empty((self._rows[-1].stop if self._rows else 0, len(vectors)), np.float32)
            if self._stack is not None:
                scores[self._places] = self._stack.block(vectors)
            for number in self._others:
                scores[self._rows[number]] = head_scores(self.heads[number], vectors).T
        seconds = (time.perf_counter() - started) * self._shares
        return PackedOutput(scores, self.layout, self.layout_digest, seconds)

    def _stack_places(self) -> npt.NDArray[np.intp] | None:
        """Return the block's row of each row of the stack; None when they are the same."""
        if self._stack is None:
            return None
        places = np.empty(self._stack.rows, np.intp)
        for place, number in enumerate(self._linear):
            rows = self._rows[number]
            places[self._stack.rows_of(place)] = np.arange(rows.start, rows.stop)
        same = not self._others and bool((places == np.arange(len(places))).all())
        return None if same else places


def _digest(layout: Sequence[HeadManifest]) -> bytes:
    told = [[m.name, m.version, m.task.value, m.labels, m.thresholds] for m in layout]
    return hashlib.sha256(json.dumps(told).encode()).digest()
