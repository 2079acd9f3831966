"""Two tiers as one: the local store first, a shared one for what it misses."""

from __future__ import annotations

from concurrent.futures import Future
from contextlib import suppress
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheBackpressure, CacheReadOnly
from embedder_cache.key import SpaceKey
from embedder_cache.tier import AskedAt, CacheTier, Lookup
from embedder_client.content_hash import HASH_BYTES


@runtime_checkable
class Compactable(Protocol):
    """A tier that keeps bytes of erased vectors until it is told to compact."""

    def compact(self) -> None:
        """Leave no byte of what was erased."""


class TieredCache:
    """Reads the local tier, then the shared one; writes to both. Thread-safe when they are.

    A hit in the local tier never touches the shared one. What the shared tier holds is stored locally on the way.
    """

    def __init__(self, local: CacheTier, shared: CacheTier) -> None:
        self.local = local
        self.shared = shared

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look n packed content hashes up; see `CacheTier`."""
        lookup = self.local.get_many(space, hashes)
        if lookup.found.all():
            return lookup
        missing = np.flatnonzero(~lookup.found)
        wanted = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)[missing]
        answer = self.shared.get_many(space, wanted.tobytes())
        if not answer.found.any():
            return lookup
        vectors, found = lookup.vectors.copy(), lookup.found.copy()
        vectors[missing] = answer.vectors
        found[missing] = answer.found
        # A copy for the next time; where the local tier can't take it now, it stays in the shared one.
        with suppress(CacheBackpressure, CacheReadOnly):
            self.local.put_many(
                space, wanted[answer.found].tobytes(), answer.vectors[answer.found], asked_at=lookup.asked_at
            )
        return Lookup(vectors, found, lookup.asked_at)

    def put_many(
        self,
        space: SpaceKey,
        hashes: bytes,
        vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
        *,
        asked_at: AskedAt | None = None,
    ) -> Future[None]:
        """Store (n, dim) vectors in both tiers; the future is the local tier's, and the shared one is best effort."""
        committed = self.local.put_many(space, hashes, vectors, asked_at=asked_at)
        with suppress(CacheBackpressure):
            self.shared.put_many(space, hashes, vectors, asked_at=asked_at)
        return committed

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Erase contents from both tiers; returns how many the fuller one held.

        Raises:
            TierUnavailable: the shared tier did not confirm it; the local one has erased them.
        """
        local = self.local.delete_many(space, hashes)
        return max(local, self.shared.delete_many(space, hashes))

    def compact(self) -> None:
        """Leave no byte of what was erased in either tier; see the tiers' own `compact`."""
        for tier in (self.local, self.shared):
            if isinstance(tier, Compactable):
                tier.compact()

    def close(self) -> None:
        """Close both tiers."""
        self.local.close()
        self.shared.close()
