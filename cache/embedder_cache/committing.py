"""Committing: what the writer thread does to the generations."""

from __future__ import annotations

import time
from collections import defaultdict

import numpy as np
import numpy.typing as npt

from embedder_cache.catalogue import Catalogue, SpaceRow
from embedder_cache.generations import Generations
from embedder_cache.key import KEY_BYTES, SpaceKey
from embedder_cache.reading import read_batch
from embedder_cache.record import RecordLayout
from embedder_cache.settings import CacheSettings, Durability
from embedder_cache.stats import Counters
from embedder_cache.writer import PutRequest


class Committer:
    """Writes groups of puts into the newest generation; runs in the writer thread only."""

    def __init__(
        self, generations: Generations, catalogue: Catalogue, settings: CacheSettings, counters: Counters
    ) -> None:
        self._generations = generations
        self._catalogue = catalogue
        self._settings = settings
        self._counters = counters
        self._spaces = catalogue.spaces()
        self._next_reader_check = time.monotonic() + settings.reader_check_interval_s

    def commit(self, requests: list[PutRequest]) -> None:
        """Commit a group of puts in one transaction; an entry that is held and whole stays as first written.

        Raises:
            OSError, lmdb.Error: nothing of the group was committed.
        """
        groups: dict[SpaceKey, list[PutRequest]] = defaultdict(list)
        for request in requests:
            groups[request.space].append(request)
        now = int(time.time())
        parts = []
        for space, members in groups.items():
            keys = np.concatenate([member.keys for member in members])
            vectors = np.concatenate([member.vectors for member in members])
            self.register(space)
            new = self._new_entries(keys, RecordLayout(space.dim))
            self._counters.add(already_held=len(keys) - len(new))
            if len(new):
                parts.append((keys[new], RecordLayout(space.dim).seal(keys[new], vectors[new], now)))
        if parts:
            self._append(parts)

    def _append(self, parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> None:
        entries = sum(len(keys) for keys, _ in parts)
        try:
            self._generations.newest.append(parts, sync=self._settings.durability is Durability.FULL)
        except BaseException:
            self._counters.add(failed=entries)
            raise
        self._counters.add(written=entries)

    def _new_entries(self, keys: npt.NDArray[np.uint8], layout: RecordLayout) -> npt.NDArray[np.int64]:
        """Choose the positions of the keys that are not held yet, each key once, the first of equals."""
        _, first = np.unique(keys.view(f"V{KEY_BYTES}").ravel(), return_index=True)
        lookup, _ = read_batch(self._generations.live, keys[first], layout, not_before=self._not_before())
        chosen: npt.NDArray[np.int64] = np.sort(first[~lookup.found])
        return chosen

    def _not_before(self) -> int:
        age = self._settings.time_to_live_s
        return int(time.time()) - age if age else 0

    def register(self, space: SpaceKey, row: SpaceRow | None = None) -> None:
        """Note a space in the catalogue, when it is new or is described anew."""
        known = self._spaces.get(space.prefix)
        if row is None and known:
            return
        chosen = row or SpaceRow(space.dim)
        if chosen != known:
            self._catalogue.set_space(space, chosen)
            self._spaces[space.prefix] = chosen

    def delete(self, space: SpaceKey, keys: npt.NDArray[np.uint8]) -> int:
        """Erase entries from all generations; returns how many were held."""
        sync = self._settings.durability is Durability.FULL
        layout = RecordLayout(space.dim)
        deleted = sum(generation.erase(keys, layout, sync=sync) for generation in self._generations.live)
        self._counters.add(deleted=deleted)
        return deleted

    def maintain(self) -> bool:
        """Free dead readers' slots when it is time; returns whether more is to be done at once."""
        if time.monotonic() >= self._next_reader_check:
            self._next_reader_check = time.monotonic() + self._settings.reader_check_interval_s
            self._catalogue.reader_check()
            for generation in self._generations.live:
                generation.index.reader_check()
        return False
