"""Collecting: keeping the store within its limit by starting, retiring and dropping generations."""

from __future__ import annotations

import time
from collections.abc import Iterator

from embedder_cache.catalogue import Catalogue
from embedder_cache.generation import Generation
from embedder_cache.generations import Generations
from embedder_cache.guiding import GuideKeeper
from embedder_cache.record import BLOCK_BYTES
from embedder_cache.retiring import KeepRule, Part, Retirement
from embedder_cache.settings import CacheSettings
from embedder_cache.slab import FIRST_BLOCK
from embedder_cache.stats import Counters

# While the oldest generation retires, puts go on: this part of a generation is theirs beside what is copied forward.
_HEADROOM = 0.25
_PIECES_PER_STEP = 16
# Kept for the guide, which grows in steps of twice its size; of records of 800 bytes it takes 2% to 4%.
_RESERVE = 0.04
# A whole generation is not given up for less than this above the limit.
_TOLERANCE = 1.05


class Collector:
    """Decides which generations there are; runs in the writer thread only.

    A generation that has its share of the limit is closed and a new one begun. When there are more than `generations`,
    the oldest retires in small steps between commits: what was asked for lately is copied to the newest, then its
    files are unlinked.
    """

    def __init__(
        self,
        generations: Generations,
        catalogue: Catalogue,
        keeper: GuideKeeper,
        settings: CacheSettings,
        counters: Counters,
    ) -> None:
        self._generations = generations
        self._catalogue = catalogue
        self._keeper = keeper
        self._settings = settings
        self._counters = counters
        self._retiring: Iterator[list[Part]] | None = None
        self._oldest: Generation | None = None
        self._copied_of_oldest = 0
        self._bytes_beside_retirement = 0
        self._may_be_over_limit = True  # the limit may be lower than the last writer's
        self._overhead_bytes = generations.overhead_bytes()

    @property
    def generation_bytes(self) -> int:
        """The share of the limit that one generation may fill."""
        room = self._settings.max_bytes - max(self._overhead_bytes, int(_RESERVE * self._settings.max_bytes))
        shares = self._settings.generations + self._settings.max_copy_fraction + _HEADROOM
        return max(1, int(room / shares))

    def make_room(self, upcoming_bytes: int) -> None:
        """Start a new generation when the newest is full; called before so many bytes of records are written.

        Raises:
            OSError, lmdb.Error, CacheError: the file system refuses.
        """
        share = self.generation_bytes
        self._bytes_beside_retirement += upcoming_bytes
        if self._bytes_beside_retirement > _HEADROOM / 2 * share:
            self.finish()
        # An entry's part of the index is seldom larger than its record.
        newest = self._generations.newest
        if newest.file_bytes + 2 * upcoming_bytes > share and newest.end_block > FIRST_BLOCK:
            self.rotate()

    def rotate(self) -> None:
        """Finish a retirement that is under way, or due, then begin a new generation."""
        self.finish()
        self._add()

    def _add(self) -> None:
        self._generations.add()
        self._overhead_bytes = self._generations.overhead_bytes()
        self._counters.add(rotations=1)

    def finish(self) -> None:
        """Finish a retirement that is under way, or due."""
        while self.step():
            pass
        self._bytes_beside_retirement = 0

    def step(self) -> bool:
        """Do one piece of what is due; returns whether more is."""
        if self._retiring is None and not self._begin():
            return False
        if self._retiring is None:
            return False
        for _ in range(_PIECES_PER_STEP):
            parts = next(self._retiring, None)
            if parts is None:
                self._finish()
                return True
            if parts:
                self._copy(parts)
                break
        return True

    def _begin(self) -> bool:
        """Choose the oldest generation to retire, when there are too many or all of its records have expired."""
        live = self._generations.live
        if self._expired(live):
            self._drop(live[-1])
            return self._begin()
        if len(live) <= self._settings.generations and not self._is_over_limit():
            return False
        if len(live) == 1:
            self._add()
            live = self._generations.live
        oldest = live[-1]
        # Of its own records: a part of the share would be all of them where the index takes the other part.
        movable_bytes = min(oldest.end_block * BLOCK_BYTES, self.generation_bytes)
        rule = KeepRule(
            era=self._generations.era,
            not_before=self._not_before(),
            pinned=frozenset(prefix for prefix, row in self._catalogue.spaces().items() if row.pinned),
            max_bytes=int(self._settings.max_copy_fraction * movable_bytes),
        )
        self._oldest = oldest
        self._copied_of_oldest = 0
        self._retiring = Retirement(oldest, live[:-1], rule).pieces()
        return True

    def _is_over_limit(self) -> bool:
        """Say whether the files have far more than the limit; measured at the start, and for as long as they do."""
        if self._may_be_over_limit:
            held = self._overhead_bytes + sum(generation.file_bytes for generation in self._generations.live)
            newest = self._generations.newest
            is_empty = len(self._generations.live) == 1 and newest.end_block == FIRST_BLOCK
            self._may_be_over_limit = held > _TOLERANCE * self._settings.max_bytes and not is_empty
        return self._may_be_over_limit

    def _not_before(self) -> int:
        age = self._settings.time_to_live_s
        return int(time.time()) - age if age else 0

    def _expired(self, live: tuple[Generation, ...]) -> bool:
        """Say whether the oldest generation was closed longer ago than records live."""
        return len(live) > 1 and live[-2].row.created < self._not_before()

    def rotate_stale(self) -> None:
        """Start a new generation when the newest covers its part of the time to live, so that expired bytes go in time."""
        part_s = self._settings.time_to_live_s / (self._settings.generations - 1)
        newest = self._generations.newest
        if part_s and time.time() - newest.row.created >= part_s and newest.end_block > FIRST_BLOCK:
            self.rotate()

    def _copy(self, parts: list[Part]) -> None:
        if self._generations.newest.file_bytes >= self.generation_bytes:
            self._add()
        newest = self._generations.newest
        blocks = newest.append(parts)
        for (keys, _), placed in zip(parts, blocks, strict=True):
            self._keeper.note(newest, keys, placed)
            self._counters.add(copied_forward=len(keys))
            self._copied_of_oldest += len(keys)

    def _finish(self) -> None:
        oldest = self._oldest
        self._retiring = self._oldest = None
        if oldest and oldest in self._generations.live:
            self._drop(oldest, copied=self._copied_of_oldest)

    def _drop(self, generation: Generation, *, copied: int = 0) -> None:
        evicted = max(0, len(generation.index) - copied)
        self._generations.drop(generation)
        self._counters.add(evicted=evicted)
        self._overhead_bytes = self._generations.overhead_bytes()
