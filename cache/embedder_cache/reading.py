"""The read path: one batch through the guide and the generations, every record checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheDamaged
from embedder_cache.generation import Generation
from embedder_cache.guide import Guide, guide_number
from embedder_cache.record import RecordLayout, is_written, record_times

_GUIDED_FROM = 4  # smaller batches are answered faster by the indexes; measured


@dataclass(frozen=True)
class ReadScope:
    """What a batch is read from, and which records count.

    Attributes:
        generations: the newest first.
        guide: where to look first; None when there is none.
        not_before: records first written before this second (since 1970) are misses.
        era: what hits are marked with for the collector; negative marks nothing.
    """

    generations: Sequence[Generation]
    guide: Guide | None
    not_before: int = 0
    era: int = -1


@dataclass(frozen=True)
class BatchRead:
    """What was found of a batch, and what was met that did not check out.

    Attributes:
        vectors: (n, dim) float16, rows of zeros for misses.
        found: (n,) bool.
        times: (n,) uint32, seconds since 1970 of the first write; 0 for misses.
        hits_of: hits by the generation's sequence number.
        damaged, expired: counts of records.
        unreadable: why generations could not be read, by sequence number.
    """

    vectors: npt.NDArray[np.float16]
    found: npt.NDArray[np.bool_]
    times: npt.NDArray[np.uint32]
    hits_of: dict[int, int]
    damaged: int
    expired: int
    unreadable: dict[int, str]


def read_batch(scope: ReadScope, keys: npt.NDArray[np.uint8], layout: RecordLayout) -> BatchRead:
    """Look a batch up: where the guide guesses first, then in the indexes, the newest first.

    Args:
        scope: what to read from.
        keys: (n, 48) uint8.
        layout: the layout of the space's records.
    Returns:
        What was found; every vector belongs to its key and passed its checksum.
    """
    reader = _Reader(scope, keys, layout)
    if scope.guide and len(keys) >= _GUIDED_FROM:
        reader.follow(scope.guide)
    for generation in scope.generations:
        if not reader.pending:
            break
        reader.search(generation)
    return reader.finish()


class _Reader:
    """One batch on its way through the store."""

    def __init__(self, scope: ReadScope, keys: npt.NDArray[np.uint8], layout: RecordLayout) -> None:
        self._scope = scope
        self._keys = keys
        self._layout = layout
        self._positions: npt.NDArray[np.int64] | None = None  # what is still missing; None: the whole batch
        self.pending = len(keys)
        self._vectors: npt.NDArray[np.float16] | None = None
        self._found: npt.NDArray[np.bool_] | None = None
        self._times: npt.NDArray[np.uint32] | None = None
        self._hits_of: dict[int, int] = {}
        self._damaged = 0
        self._expired = 0
        self._unreadable: dict[int, str] = {}

    def follow(self, guide: Guide) -> None:
        """Try the guide's guesses; a wrong one costs nothing but its time."""
        numbers, blocks = guide.guess(self._keys)
        for generation in self._scope.generations:
            of_generation = (numbers == guide_number(generation.sequence)) & (blocks > 0)
            if of_generation.all():
                self._take(generation, None, blocks, guessed=True)
                break
            if of_generation.any():
                positions = np.flatnonzero(of_generation)
                self._take(generation, positions, blocks[positions], guessed=True)
        self._note_missing()

    def search(self, generation: Generation) -> None:
        """Look up in a generation's index what is still missing."""
        positions = self._positions
        wanted = self._keys if positions is None else self._keys[positions]
        try:
            blocks = generation.index.find(wanted)
        except CacheDamaged as error:
            self._unreadable[generation.sequence] = str(error)
            return
        held = blocks > 0
        if held.all():
            self._take(generation, positions, blocks, guessed=False)
        elif held.any():
            chosen = np.flatnonzero(held) if positions is None else positions[held]
            self._take(generation, chosen, blocks[held], guessed=False)
        else:
            return
        self._note_missing()

    def finish(self) -> BatchRead:
        """Put together what was found."""
        vectors, found, times = self._arrays()
        return BatchRead(vectors, found, times, self._hits_of, self._damaged, self._expired, self._unreadable)

    def _take(
        self,
        generation: Generation,
        positions: npt.NDArray[np.int64] | None,
        blocks: npt.NDArray[np.int64],
        *,
        guessed: bool,
    ) -> None:
        """Read records, check them, and keep those that answer their keys; `positions` None means the whole batch."""
        keys = self._keys if positions is None else self._keys[positions]
        try:
            records = generation.slab.gather(blocks, record_blocks=self._layout.blocks)
        except CacheDamaged as error:
            self._unreadable[generation.sequence] = str(error)
            return
        valid = self._layout.check(records, keys)
        times = record_times(records)
        whole = bool(valid.all())
        if not whole and not guessed:
            self._damaged += int(np.count_nonzero(is_written(records) & ~valid))
        if self._scope.not_before:
            fresh = times >= self._scope.not_before
            if not guessed:
                self._expired += int(np.count_nonzero(valid & ~fresh))
            valid &= fresh
            whole = bool(valid.all())
        if not whole:
            positions = np.flatnonzero(valid) if positions is None else positions[valid]
            records, times, blocks = records[valid], times[valid], blocks[valid]
        self._keep(positions, records, times)
        self._hits_of[generation.sequence] = self._hits_of.get(generation.sequence, 0) + len(blocks)
        if self._scope.era >= 0 and generation.touches:
            generation.touches.mark(blocks, era=self._scope.era)

    def _keep(
        self,
        positions: npt.NDArray[np.int64] | None,
        records: npt.NDArray[np.uint8],
        times: npt.NDArray[np.uint32],
    ) -> None:
        if positions is None:
            self._vectors, self._times = self._layout.vectors(records), times
            self._found = np.ones(len(records), np.bool_)
            self.pending = 0
            return
        vectors, found, all_times = self._arrays()
        vectors[positions] = self._layout.vectors(records)
        found[positions] = True
        all_times[positions] = times

    def _arrays(self) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.bool_], npt.NDArray[np.uint32]]:
        """Give the result's arrays; they are made only for a batch that is scattered over several places."""
        if self._vectors is None or self._found is None or self._times is None:
            count = len(self._keys)
            self._vectors = np.zeros((count, self._layout.dim), np.float16)
            self._found = np.zeros(count, np.bool_)
            self._times = np.zeros(count, np.uint32)
        return self._vectors, self._found, self._times

    def _note_missing(self) -> None:
        if self._found is None or not self.pending:
            return
        self._positions = np.flatnonzero(~self._found)
        self.pending = len(self._positions)
