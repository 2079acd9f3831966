"""Layouts of packed answers that a client holds, so that a thousand heads' labels cross the wire once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from embedder_client.figures import Basis, Figure
from embedder_client.heads import HeadKind, HeadPrediction

_KEPT = 64
_SOURCE = "measured time of the call's heads, by this head's share of the multiplications"


@dataclass(frozen=True, slots=True)
class HeadPart:
    """What one head's part of a packed answer means: `rows` of the block, one a label."""

    head: str
    version: int
    kind: HeadKind
    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    rows: slice


class PackedPredictions(Sequence[HeadPrediction]):
    """The predictions of very many heads over one block of numbers; each is made when it is looked at.

    Attributes:
        matrix: (labels of all heads, n) float32, head after head; rows of `matrix` are labels, columns are contents.
        parts: what the rows mean, one a head.
    """

    def __init__(
        self, matrix: npt.NDArray[np.float32], parts: Sequence[HeadPart], seconds: npt.NDArray[np.float32]
    ) -> None:
        self.matrix = matrix
        self.parts = parts
        self._seconds = seconds

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[HeadPrediction]:
        return (self[number] for number in range(len(self)))

    @overload
    def __getitem__(self, number: int) -> HeadPrediction: ...
    @overload
    def __getitem__(self, number: slice) -> Sequence[HeadPrediction]: ...
    def __getitem__(self, number: int | slice) -> HeadPrediction | Sequence[HeadPrediction]:
        if isinstance(number, slice):
            return PackedPredictions(self.matrix, self.parts[number], self._seconds[number])
        part = self.parts[number]
        scores = self.matrix[part.rows].T  # (n, labels)
        return HeadPrediction(
            head=part.head,
            version=part.version,
            kind=part.kind,
            labels=part.labels,
            scores=scores,
            label_indices=np.broadcast_to(np.arange(scores.shape[1], dtype=np.uint32), scores.shape),
            thresholds=np.array(part.thresholds, np.float32) if part.thresholds else None,
            compute_time=Figure(float(self._seconds[number]), Basis.ESTIMATED, "s", _SOURCE),
        )

    def take_contents(self, columns: list[int]) -> PackedPredictions:
        """Return the predictions of the contents at these columns of `matrix`, in this order."""
        return PackedPredictions(self.matrix[:, columns], self.parts, self._seconds)


def join_packed(parts: Sequence[Sequence[HeadPrediction]]) -> PackedPredictions | None:
    """Join the predictions of a call's parts as one block; None where they are no blocks, or of different heads."""
    blocks = [part for part in parts if isinstance(part, PackedPredictions)]
    if len(blocks) < len(parts) or any(block.parts != blocks[0].parts for block in blocks):
        return None
    matrix = np.concatenate([block.matrix for block in blocks], axis=1)
    return PackedPredictions(matrix, blocks[0].parts, np.sum([block._seconds for block in blocks], axis=0))


class LayoutCache:
    """The last layouts that a service told, by the heads that were asked for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, ...], tuple[bytes, tuple[HeadPart, ...]]] = OrderedDict()

    def digest(self, heads: tuple[str, ...]) -> bytes:
        """Return the digest of the layout that is held for these heads, empty if none is."""
        with self._lock:
            return self._held[heads][0] if heads in self._held else b""

    def held(self, heads: tuple[str, ...], digest: bytes) -> tuple[HeadPart, ...] | None:
        """Return the layout of a digest; None if another or none is held."""
        with self._lock:
            found = self._held.get(heads)
            return found[1] if found is not None and found[0] == digest else None

    def keep(self, heads: tuple[str, ...], digest: bytes, parts: tuple[HeadPart, ...]) -> None:
        """Hold a layout for these heads, in place of an earlier one."""
        with self._lock:
            self._held[heads] = (digest, parts)
            self._held.move_to_end(heads)
            while len(self._held) > _KEPT:
                self._held.popitem(last=False)
