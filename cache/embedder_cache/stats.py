"""What the cache counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class GenerationStats:
    """One generation's size.

    Attributes:
        sequence: its number; the newest has the highest.
        entries: keys in it.
        file_bytes: bytes of its files.
        hits: lookups of this process that it answered.
    """

    sequence: int
    entries: int
    file_bytes: int
    hits: int


@dataclass(frozen=True)
class CacheStats:
    """Counts of this process since it opened the cache, and the sizes of the store now.

    Attributes:
        entries: keys in all generations.
        file_bytes: bytes of all files of the store.
        max_bytes: the limit that the writer keeps.
        generations: the newest first.
        hits: hashes that were looked up and found.
        misses: hashes that were looked up and not found, whatever the reason.
        damaged: records that did not check out (misses too).
        expired: records past their time to live (misses too).
        written: entries committed.
        already_held: entries that were put again and kept as first written.
        refused: entries refused because the queue was full.
        failed: entries that could not be committed.
        deleted: entries erased.
        copied_forward: entries that outlived their generation because they were asked for.
        evicted: entries that went with their generation.
        queued_bytes: bytes that wait for their commit.
        quarantined: generations set aside because their files were damaged.
    """

    entries: int
    file_bytes: int
    max_bytes: int
    generations: tuple[GenerationStats, ...]
    hits: int = 0
    misses: int = 0
    damaged: int = 0
    expired: int = 0
    written: int = 0
    already_held: int = 0
    refused: int = 0
    failed: int = 0
    deleted: int = 0
    copied_forward: int = 0
    evicted: int = 0
    queued_bytes: int = 0
    quarantined: int = 0


@dataclass
class Counters:
    """Counts that several threads add to."""

    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, **amounts: int) -> None:
        """Add to counts by the names of `CacheStats`' fields."""
        with self._lock:
            for name, amount in amounts.items():
                self.counts[name] = self.counts.get(name, 0) + amount

    def snapshot(self) -> dict[str, int]:
        """Copy all counts."""
        with self._lock:
            return dict(self.counts)
