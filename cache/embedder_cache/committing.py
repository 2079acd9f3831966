"""Committing: what the writer thread does with the puts of a group."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from embedder_cache.catalogue import Catalogue, SpaceRow
from embedder_cache.collecting import Collector
from embedder_cache.generations import Generations
from embedder_cache.guiding import GuideKeeper
from embedder_cache.key import KEY_BYTES, SpaceKey
from embedder_cache.reading import ReadScope, read_batch
from embedder_cache.record import RecordLayout
from embedder_cache.stats import Counters
from embedder_cache.tombstones import Tombstones
from embedder_cache.writer import PutRequest

_CHUNKS_PER_GENERATION = 8


class Committer:
    """Writes groups of puts into the newest generation; runs in the writer thread only."""

    def __init__(
        self,
        generations: Generations,
        catalogue: Catalogue,
        collector: Collector,
        keeper: GuideKeeper,
        tombstones: Tombstones,
        *,
        time_to_live_s: int,
        counters: Counters,
    ) -> None:
        self._generations = generations
        self._catalogue = catalogue
        self._collector = collector
        self._keeper = keeper
        self._tombstones = tombstones
        self._time_to_live_s = time_to_live_s
        self._counters = counters

    def commit(self, requests: list[PutRequest]) -> None:
        """Commit a group of puts; an entry that is held and whole stays as first written.

        Raises:
            OSError, lmdb.Error, CacheError: part of the group was not committed, for instance because the disk is full.
        """
        groups: dict[SpaceKey, list[PutRequest]] = defaultdict(list)
        for request in requests:
            groups[request.space].append(request)
        for space, members in groups.items():
            self.register(space)
            spared = [self._tombstones.spare(member.keys, asked_at=member.asked_at) for member in members]
            keys = np.concatenate([member.keys[alive] for member, alive in zip(members, spared, strict=True)])
            vectors = np.concatenate([member.vectors[alive] for member, alive in zip(members, spared, strict=True)])
            self._commit_space(keys, vectors, RecordLayout(space.dim))

    def _commit_space(
        self, keys: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float16], layout: RecordLayout
    ) -> None:
        new = self._new_entries(keys, layout)
        self._counters.add(already_held=len(keys) - len(new))
        now = int(time.time())
        chunk = max(1, self._collector.generation_bytes // _CHUNKS_PER_GENERATION // layout.record_bytes)
        for start in range(0, len(new), chunk):
            chosen = new[start : start + chunk]
            self._collector.make_room(len(chosen) * layout.record_bytes)
            newest = self._generations.newest
            blocks = newest.append([(keys[chosen], layout.seal(keys[chosen], vectors[chosen], now))])[0]
            self._keeper.note(newest, keys[chosen], blocks)
            self._counters.add(written=len(chosen))

    def _new_entries(self, keys: npt.NDArray[np.uint8], layout: RecordLayout) -> npt.NDArray[np.int64]:
        """Choose the positions of the keys that are not held yet, each key once, the first of equals."""
        _, first = np.unique(keys.view(f"V{KEY_BYTES}").ravel(), return_index=True)
        not_before = int(time.time()) - self._time_to_live_s if self._time_to_live_s else 0
        # A content that is put again counts as asked for: it must not go with its generation before its time.
        scope = ReadScope(self._generations.live, self._generations.guide, not_before, self._generations.era)
        held = read_batch(scope, keys[first], layout).found
        chosen: npt.NDArray[np.int64] = np.sort(first[~held])
        return chosen

    def register(self, space: SpaceKey, row: SpaceRow | None = None) -> None:
        """Note a space in the catalogue, when it is new or is described anew."""
        known = self._catalogue.space(space.prefix)
        chosen = row or known or SpaceRow(space.dim)
        if chosen != known:
            self._catalogue.set_space(space, chosen)
