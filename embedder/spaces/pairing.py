"""Contents that two spaces both hold: found in the cache by their hash, as a sample that is always the same one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_cache import SpaceKey, VectorCache
from embedder_cache.key import PREFIX_BYTES
from embedder_client.content_hash import HASH_BYTES

Floats = npt.NDArray[np.float32]
Hashes = npt.NDArray[np.uint8]

_BATCH = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class PairedVectors:
    """The same contents in two spaces.

    Attributes:
        hashes: (n, 32) uint8, ascending.
        old: (n, dim of the old space) float32 of L2 norm 1.
        new: (n, dim of the new space) float32 of L2 norm 1.
    """

    hashes: Hashes
    old: Floats
    new: Floats

    def __len__(self) -> int:
        return len(self.hashes)

    def without(self, hashes: frozenset[bytes]) -> PairedVectors:
        """Return the pairs of other contents than these, by hash."""
        return self.take(np.flatnonzero([row.tobytes() not in hashes for row in self.hashes]))

    def take(self, rows: npt.NDArray[np.intp]) -> PairedVectors:
        """Return the pairs of some rows."""
        return PairedVectors(self.hashes[rows], self.old[rows], self.new[rows])


def held_hashes(cache: VectorCache, space: SpaceKey) -> Iterator[Hashes]:
    """Walk through the contents that a space holds, in batches of (n, 32) uint8; one that was copied forward may come twice."""
    for generation in cache.generations():
        for keys, _ in generation.index.scan(space.prefix, batch=_BATCH):
            yield keys[:, PREFIX_BYTES:]


def count_held(cache: VectorCache, space: SpaceKey) -> int:
    """Count the contents that a space holds; one that was copied forward and is held twice counts twice."""
    return sum(len(hashes) for hashes in held_hashes(cache, space))


def find_pairs(cache: VectorCache, old: SpaceKey, new: SpaceKey, *, limit: int) -> PairedVectors:
    """Find contents that both spaces hold: those of the smallest hashes, which is a uniform sample of them.

    Args:
        cache: holds both spaces.
        old: one of them.
        new: the other.
        limit: how many pairs are wanted at most.
    """
    found: list[Hashes] = []
    for generation in cache.generations():
        held = 0
        # Keys come in order, so the first that are held in both are the smallest of this generation.
        for keys, _ in generation.index.scan(old.prefix, batch=_BATCH):
            hashes = np.ascontiguousarray(keys[:, PREFIX_BYTES:])
            found.append(hashes[cache.get_many(new, hashes.tobytes()).found])
            held += len(found[-1])
            if held >= limit:
                break
    chosen = np.unique(np.concatenate(found), axis=0)[:limit] if found else np.empty((0, HASH_BYTES), np.uint8)
    packed = chosen.tobytes()
    lookups = [cache.get_many(space, packed) for space in (old, new)]
    both = lookups[0].found & lookups[1].found  # what was erased or damaged since is in neither
    return PairedVectors(chosen[both], *(_unit(lookup.vectors[both]) for lookup in lookups))


def _unit(vectors: npt.NDArray[np.float16]) -> Floats:
    wide = vectors.astype(np.float32)
    unit: Floats = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), np.float32(1e-12))
    return unit
