"""Retiring: the oldest generation goes, and what was asked for of it moves to the newest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_cache.generation import Generation
from embedder_cache.key import PREFIX_BYTES
from embedder_cache.record import BLOCK_BYTES, RecordLayout, record_dims, record_times
from embedder_cache.walking import whole_records

_BATCH = 1024
_LOTS = 1 << 16


@dataclass(frozen=True)
class KeepRule:
    """Which records of a retiring generation live on.

    Attributes:
        era: the era now; ages of marks count back from it.
        not_before: records first written before this second are dropped.
        pinned: prefixes of spaces that are kept before all others.
        max_bytes: how many bytes of records may live on.
    """

    era: int
    not_before: int
    pinned: frozenset[bytes]
    max_bytes: int


Part = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]


class Retirement:
    """Walks the oldest generation in pieces and chooses what is copied forward.

    Pinned spaces come first. Of the others those live on that were asked for most lately, back to the age where the
    room ends: an approximation of least-recently-used, a generation being the unit of time.
    """

    def __init__(self, oldest: Generation, newer: tuple[Generation, ...], rule: KeepRule) -> None:
        self.oldest = oldest
        self._newer = newer
        self._rule = rule
        self._kept_bytes = 0
        self._pinned_bytes = sum(self._space_bytes(prefix) for prefix in rule.pinned)
        self._edge_age, self._edge_part = self._choose_edge(rule.max_bytes - self._pinned_bytes)

    def _space_bytes(self, prefix: bytes) -> int:
        """Bytes of records that a space has in the generation, from the first one's size."""
        count = 0
        step = 0
        for keys, blocks in self.oldest.index.scan(prefix):
            count += len(keys)
            if not step:
                header = self.oldest.slab.gather(blocks[:1], record_blocks=1)
                step = RecordLayout(max(1, int(record_dims(header)[0]))).record_bytes
        return count * step

    def _choose_edge(self, room: int) -> tuple[int, float]:
        """Choose the age, in eras, where the room ends, and the part of that age's records that still fits."""
        if self.oldest.touches is None or room <= 0:
            return 0, 0.0
        entries = max(1, len(self.oldest.index))
        mean_bytes = self.oldest.end_block * BLOCK_BYTES / entries
        of_age = self.oldest.touches.histogram(era=self._rule.era) * mean_bytes
        kept = np.cumsum(of_age)
        edge = int(np.searchsorted(kept, room, side="right"))
        if edge == len(kept):
            return edge, 0.0
        return edge, float((room - (kept[edge] - of_age[edge])) / of_age[edge])

    def pieces(self) -> Iterator[list[Part]]:
        """Yield, for one batch of keys after another, the records that live on, by layout; often none."""
        for keys, blocks in self.oldest.index.scan(batch=_BATCH):
            chosen = self._choose(keys, blocks)
            yield self._read(keys[chosen], blocks[chosen])

    def _choose(self, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        wanted = np.zeros(len(keys), np.bool_)
        if self.oldest.touches is not None:
            ages = self.oldest.touches.ages(blocks, era=self._rule.era)
            lot = keys.view("<u2")[:, -1] < self._edge_part * _LOTS  # content hashes are uniform
            wanted = (ages >= 0) & ((ages < self._edge_age) | ((ages == self._edge_age) & lot))
        if self._rule.pinned:
            prefixes = keys[:, :PREFIX_BYTES].copy().view(f"V{PREFIX_BYTES}").ravel().tolist()
            wanted |= np.array([prefix in self._rule.pinned for prefix in prefixes], np.bool_)
        for generation in self._newer:
            if wanted.any():
                wanted[wanted] = generation.index.find(keys[wanted]) == 0
        return wanted

    def _read(self, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64]) -> list[Part]:
        """Read whole, unexpired records, grouped by dimension, as far as there is room; damaged ones are left behind."""
        parts: list[Part] = []
        for positions, layout, records in whole_records(self.oldest, keys, blocks):
            room = max(0, (self._rule.max_bytes - self._kept_bytes) // layout.record_bytes)
            chosen = np.flatnonzero(record_times(records) >= self._rule.not_before)[:room]
            self._kept_bytes += len(chosen) * layout.record_bytes
            if len(chosen):
                parts.append((keys[positions[chosen]], records[chosen]))
        return parts
