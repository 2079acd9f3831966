"""A tier in memory, for tests and for trying things out: it forgets everything when it is closed."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from concurrent.futures import Future

import numpy as np
import numpy.typing as npt

from embedder_cache.key import SpaceKey, key_list, pack_keys
from embedder_cache.tier import AskedAt, Lookup, as_half_vectors


class MemoryTier:
    """Vectors in a dict; the least recently used go first. Thread-safe."""

    def __init__(self, *, max_entries: int = 100_000) -> None:
        self._max_entries = max_entries
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[bytes, int], npt.NDArray[np.float16]] = OrderedDict()

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look n packed content hashes up; see `CacheTier`."""
        asked_at = time.time()
        names = key_list(pack_keys(space.prefix, hashes))
        vectors = np.zeros((len(names), space.dim), np.float16)
        found = np.zeros(len(names), np.bool_)
        with self._lock:
            for row, name in enumerate(names):
                held = self._held.get((name, space.dim))
                if held is not None:
                    self._held.move_to_end((name, space.dim))
                    vectors[row] = held
                    found[row] = True
        return Lookup(vectors, found, asked_at)

    def put_many(
        self,
        space: SpaceKey,
        hashes: bytes,
        vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
        *,
        asked_at: AskedAt | None = None,
    ) -> Future[None]:
        """Store (n, dim) vectors at once; `asked_at` is not needed, for nothing is in flight here."""
        del asked_at
        keys = pack_keys(space.prefix, hashes)
        halves = as_half_vectors(vectors, count=len(keys), dim=space.dim)
        with self._lock:
            for name, vector in zip(key_list(keys), halves, strict=True):
                self._held.setdefault((name, space.dim), vector)
            while len(self._held) > self._max_entries:
                self._held.popitem(last=False)
        stored: Future[None] = Future()
        stored.set_result(None)
        return stored

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Take contents out; returns how many were there."""
        names = key_list(pack_keys(space.prefix, hashes))
        with self._lock:
            return sum(self._held.pop((name, space.dim), None) is not None for name in names)

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._held.clear()
