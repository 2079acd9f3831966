"""A cache beside a dict that says what it must hold: the operations that the soak and the state machine share."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from embedder_cache import CacheSettings, VectorCache
from tests.faults.numbered import numbered_hashes, numbered_vectors, space_of

_VERSIONS = 1000


class StoreModel:
    """Applies each operation to a cache and to a dict, and asserts that they agree.

    The dict knows for each (space, number) which versions of its vector may be served and whether one must be. An entry
    may only be missing without having been erased after the cache has reported evictions.
    """

    def __init__(self, folder: Path, settings: CacheSettings) -> None:
        self._folder = folder
        self._settings = settings
        self._copies = 0
        self._may_serve: dict[tuple[int, int], set[int]] = {}
        self._must_hold: set[tuple[int, int]] = set()
        self._evicted = 0
        self.cache = VectorCache.open(folder / "cache-0", settings)

    def put(self, space: int, numbers: Sequence[int], version: int) -> None:
        """Put numbered contents with the vectors of a version; what is held keeps its vector."""
        names = _name(numbers, version)
        held = {number for number in numbers if (space, number) in self._must_hold}
        self.cache.put_many(space_of(space), numbered_hashes(numbers), numbered_vectors(names)).result()
        evicted = self._note_evictions()
        for number in numbers:
            if number not in held or evicted:
                self._may_serve.setdefault((space, number), set()).add(version)
        if not evicted:
            self._must_hold.update((space, number) for number in numbers)
        self._settle(space, numbers)

    def _settle(self, space: int, numbers: Sequence[int]) -> None:
        """Learn which versions are served, where an eviction left that open; none may be another's."""
        lookup = self.cache.get_many(space_of(space), numbered_hashes(numbers))
        for number, found, vector in zip(numbers, lookup.found, lookup.vectors, strict=True):
            if found:
                self._may_serve[space, number] = {self._version(space, number, vector)}

    def _version(self, space: int, number: int, vector: np.ndarray) -> int:
        for version in self._may_serve.get((space, number), set()):
            if np.array_equal(vector, numbered_vectors(_name([number], version))[0]):
                return version
        raise AssertionError(f"content {number} of space {space} got a vector that was never put for it")

    def get(self, space: int, numbers: Sequence[int]) -> None:
        """Look numbered contents up, and compare."""
        lookup = self.cache.get_many(space_of(space), numbered_hashes(numbers))
        for number, found, vector in zip(numbers, lookup.found, lookup.vectors, strict=True):
            if found:
                self._version(space, number, vector)
            else:
                assert not vector.any()
                # The oldest generation may have gone since the last operation: that is looked at before all is lost.
                lost = (space, number) in self._must_hold and not self._note_evictions()
                assert not lost, f"content {number} of space {space} is lost"

    def delete(self, space: int, numbers: Sequence[int]) -> None:
        """Erase numbered contents."""
        held = len({(space, number) for number in numbers} & self._must_hold)
        deleted = self.cache.delete_many(space_of(space), numbered_hashes(numbers))
        assert deleted >= held or self._note_evictions()
        self._forget({(space, number) for number in numbers})

    def erase_space(self, space: int) -> None:
        """Erase a whole space."""
        self.cache.erase_space(space_of(space))
        self._forget({name for name in self._may_serve if name[0] == space})

    def _forget(self, names: set[tuple[int, int]]) -> None:
        for name in names:
            self._may_serve.pop(name, None)
            self._must_hold.discard(name)

    def rotate(self) -> None:
        """Begin a new generation, and let the oldest retire when there are too many."""
        self.cache.rotate()
        self._note_evictions()

    def compact(self) -> None:
        """Write every generation anew."""
        self.cache.compact()
        self._note_evictions()

    def reopen(self) -> None:
        """Close the cache and open it again."""
        path = self.cache.path
        self.close()
        self.cache = VectorCache.open(path, self._settings)
        self._evicted = 0

    def crash(self) -> None:
        """Go on with a copy of the files as they lie there, as after a kill, and throw the open cache away."""
        self._copies += 1
        old, new = self.cache.path, self._folder / f"cache-{self._copies}"
        self._settle_generations()
        # By the writer's thread, so that no file changes while it is copied.
        self.cache._call(lambda: shutil.copytree(old, new, ignore=shutil.ignore_patterns("lock.mdb")))
        self.close()
        shutil.rmtree(old)
        self.cache = VectorCache.open(new, self._settings)
        self._evicted = 0

    def check_all(self) -> None:
        """Compare every entry that was ever put and not erased."""
        for space in sorted({space for space, _ in self._may_serve}):
            self.get(space, [number for other, number in self._may_serve if other == space])

    def check_size(self) -> None:
        """Assert that the files keep their limit."""
        stats = self.cache.stats()
        assert stats.file_bytes <= 1.1 * stats.max_bytes, f"{stats.file_bytes} bytes of {stats.max_bytes}"
        assert stats.damaged == stats.quarantined == 0

    def _note_evictions(self) -> bool:
        """Allow misses of everything that was put before the cache evicted something; returns whether it did."""
        self.cache.flush()
        evicted = self.cache.stats().evicted
        has_evicted = evicted > self._evicted
        if has_evicted:
            self._must_hold.clear()
        self._evicted = evicted
        return has_evicted

    def close(self) -> None:
        """Close the cache."""
        self._settle_generations()
        self.cache.close()

    def _settle_generations(self) -> None:
        """Wait until no generation is retiring, so that nothing is evicted unseen."""
        self.cache._call(self.cache._duties.finish_collecting)
        self._note_evictions()


def _name(numbers: Sequence[int], version: int) -> list[int]:
    return [number * _VERSIONS + version for number in numbers]
