"""Keeping the guide: noting what is committed, and filling a new table from the indexes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from embedder_cache.catalogue import Catalogue
from embedder_cache.generation import Generation
from embedder_cache.generations import Generations
from embedder_cache.guide import guide_number


class GuideKeeper:
    """Keeps the guide in step with the store; runs in the writer thread only."""

    def __init__(self, generations: Generations, catalogue: Catalogue) -> None:
        self._generations = generations
        self._catalogue = catalogue
        self._filled: tuple[int, int] | None = None
        self._filling: Iterator[None] | None = None

    def note(self, generation: Generation, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64]) -> None:
        """Note where committed records stand."""
        guide = self._generations.guide
        if guide:
            live = [(other.row.order, other.sequence) for other in self._generations.live]
            guide.insert(keys, blocks, sequence=generation.sequence, live=[sequence for _, sequence in sorted(live)])

    def guess(self, generation: Generation, keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Tell where the guide believes the records of keys in a generation: (n,) int64, 0 where it knows none."""
        guide = self._generations.guide
        if guide is None:
            return np.zeros(len(keys), np.int64)
        numbers, blocks = guide.guess(keys)
        return np.where(numbers == guide_number(generation.sequence), blocks, 0)

    def step(self) -> bool:
        """Do one piece of filling; begins when the table is missing, full, or was never filled to the end.

        Returns:
            Whether more is to be done.
        Raises:
            OSError: the file system refuses a larger table; the old one goes on.
        """
        if self._filling is None and not self._begin():
            return False
        if self._filling and next(self._filling, True) is None:
            return True
        self._filling = None
        if self._generations.guide:
            self._catalogue.announce_guide(self._generations.guide.identity, filled=True)
        return False

    def _begin(self) -> bool:
        entries = sum(len(generation.index) for generation in self._generations.live)
        guide = self._generations.guide
        if not guide or not guide.has_room_for(entries):
            guide = self._generations.replace_guide(entries=entries)
        elif self._filled == guide.identity or self._catalogue.is_guide_filled(guide.identity):
            self._filled = guide.identity
            return False
        self._filling = self._fill()
        return True

    def _fill(self) -> Iterator[None]:
        """Note every key of every generation, the oldest first; yields after each batch."""
        for generation in reversed(self._generations.live):
            for keys, blocks in generation.index.scan():
                if generation not in self._generations.live:
                    break
                self.note(generation, keys, blocks)
                yield None
