"""What the cache counts."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

import numpy as np

from embedder_cache.reading import BatchRead

_AGE_BUCKETS = 33  # bit lengths of ages in seconds, 0 to 32
_AGES_FROM_EVERY = 16  # batches: ages are counted in one of so many, and scaled


@dataclass(frozen=True)
class GenerationStats:
    """One generation's size.

    Attributes:
        sequence: its number.
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
        hits_by_age: hits by the entry's age, estimated from one batch in sixteen: the n-th count is of ages below
            2**n seconds and not below half of that.
        hits: hashes that were looked up and found.
        misses: hashes that were looked up and not found, whatever the reason.
        damaged: records that did not check out (misses too).
        expired: records past their time to live (misses too).
        written: entries committed.
        already_held: entries that were put again and kept as first written.
        refused: entries refused because the queue was full.
        deleted: entries erased.
        copied_forward: entries that outlived their generation because they were asked for.
        evicted: entries that went with their generation.
        rotations: generations begun because the one before was full.
        queued_bytes: bytes that wait for their commit.
        quarantined: generations set aside because their files were damaged.
    """

    entries: int
    file_bytes: int
    max_bytes: int
    generations: tuple[GenerationStats, ...]
    hits_by_age: tuple[int, ...]
    hits: int = 0
    misses: int = 0
    damaged: int = 0
    expired: int = 0
    written: int = 0
    already_held: int = 0
    refused: int = 0
    deleted: int = 0
    copied_forward: int = 0
    evicted: int = 0
    rotations: int = 0
    queued_bytes: int = 0
    quarantined: int = 0


@dataclass(frozen=True)
class CounterSnapshot:
    """Counts at one moment: totals by the names of `CacheStats`' fields, hits by generation, hits by age."""

    totals: dict[str, int]
    hits_of: dict[int, int]
    hits_by_age: tuple[int, ...]


class Counters:
    """Counts that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._totals: Counter[str] = Counter()
        self._hits_of: Counter[int] = Counter()
        self._hits_by_age = np.zeros(_AGE_BUCKETS, np.int64)
        self._batches = 0

    def add(self, **amounts: int) -> None:
        """Add to totals by the names of `CacheStats`' fields."""
        with self._lock:
            self._totals.update(amounts)

    def note(self, read: BatchRead, now: int) -> None:
        """Add what one batch found; `now` is in seconds since 1970."""
        hits = sum(read.hits_of.values())
        with self._lock:
            totals = self._totals
            totals["hits"] += hits
            totals["misses"] += len(read.found) - hits
            if read.damaged or read.expired:
                totals["damaged"] += read.damaged
                totals["expired"] += read.expired
            for sequence, count in read.hits_of.items():
                self._hits_of[sequence] += count
            self._batches += 1
            if self._batches % _AGES_FROM_EVERY == 1:
                ages = np.maximum(0, now - read.times[read.found].astype(np.int64))
                lengths = np.frexp(ages.astype(np.float64))[1]
                self._hits_by_age += _AGES_FROM_EVERY * np.bincount(lengths, minlength=_AGE_BUCKETS)[:_AGE_BUCKETS]

    def snapshot(self) -> CounterSnapshot:
        """Copy all counts."""
        with self._lock:
            return CounterSnapshot(dict(self._totals), dict(self._hits_of), tuple(self._hits_by_age.tolist()))
