"""The guide: a mapped table that guesses where a record stands, so that most hits need no walk through an index.

Each entry is 8 bytes: 12 bits of the key's hash, 12 bits of the generation's number, 40 bits of the first block. Eight
entries are a bucket, which is one cache line. A guess is never trusted: the record that it leads to must echo the key and pass its
checksum, or the index is asked. So the table may be stale, torn, lossy or missing, and costs time only.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

GUIDE_FILE = "guide"

_WAYS = 8
_ENTRY_BYTES = 8
_BUCKET_BYTES = _WAYS * _ENTRY_BYTES
_MIN_BUCKETS = 1 << 9
_MAX_LOAD = 0.375  # at most one entry in 600 then finds its bucket full (Poisson)
_SPARE = 1.25
_TAG_SHIFT = np.uint64(52)
_GENERATION_SHIFT = np.uint64(40)
_GENERATION_MASK = np.uint64(0xFFF)
_ONE = np.uint64(1)  # no tag is 0, which an empty entry has
_BLOCK_MASK = np.uint64((1 << 40) - 1)
_INSERT_ROUNDS = 8  # keys of one batch that fall on the same place: one wins, the others try again


class Guide:
    """One mapped table. Thread-safe for reading; one thread of one process inserts."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Map an existing table.

        Raises:
            OSError: the file is missing or can't be mapped.
            ValueError: the file's size is not that of a table.
        """
        file = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            status = os.fstat(file)
            buckets = status.st_size // _BUCKET_BYTES
            if buckets < _MIN_BUCKETS or buckets & (buckets - 1) or status.st_size % _BUCKET_BYTES:
                raise ValueError(f"{status.st_size} bytes are no table")
            protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
            mapped = mmap.mmap(file, status.st_size, prot=protection)
        finally:
            os.close(file)
        mapped.madvise(mmap.MADV_RANDOM)
        self.identity = (status.st_dev, status.st_ino)
        self.file_bytes = status.st_size
        self._table = np.frombuffer(mapped, "<u8").reshape(buckets, _WAYS)
        self._mask = np.uint64(buckets - 1)

    @classmethod
    def create(cls, path: Path, *, entries: int) -> Guide:
        """Make an empty table with room for a quarter more than `entries`, in the place of any other.

        Raises:
            OSError: the file system refuses, for instance because it is full; what was there stays.
        """
        buckets = _MIN_BUCKETS
        while buckets * _WAYS * _MAX_LOAD < _SPARE * entries:
            buckets *= 2
        fresh = path.with_suffix(".new")
        fresh.unlink(missing_ok=True)
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            # Room is taken at once: a mapped hole that the disk can't fill would kill the process.
            os.posix_fallocate(file, 0, buckets * _BUCKET_BYTES)
        except BaseException:
            fresh.unlink()
            raise
        finally:
            os.close(file)
        fresh.rename(path)
        return cls(path, writable=True)

    def has_room_for(self, entries: int) -> bool:
        """Say whether so many entries leave the table sparse enough to be worth asking."""
        return entries <= self._table.size * _MAX_LOAD

    def guess(self, keys: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
        """Guess where the records of keys stand.

        Args:
            keys: (n, 48) uint8.
        Returns:
            numbers (n,) uint64, the `guide_number` of the generation, and blocks (n,) int64; where
            there is no guess the block is 0.
        """
        buckets, tags = self._place(keys)
        bucket = self._table.take(buckets, axis=0)  # (n, ways)
        same = (bucket >> _TAG_SHIFT) == tags[:, None]
        entries = bucket[np.arange(len(keys)), same.argmax(axis=1)]
        entries[(entries >> _TAG_SHIFT) != tags] = 0
        return (entries >> _GENERATION_SHIFT) & _GENERATION_MASK, (entries & _BLOCK_MASK).view(np.int64)

    def insert(
        self, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64], *, sequence: int, live: Sequence[int]
    ) -> None:
        """Note where records stand; a full bucket gives up the entry of its oldest generation.

        Args:
            keys: (n, 48) uint8.
            blocks: (n,) int64.
            sequence: the generation that they are in.
            live: the sequence numbers of all generations that are read, the oldest first.
        """
        rank = np.zeros(int(_GENERATION_MASK) + 1, np.int64)  # 0 for generations that are gone
        for age, number in enumerate(live):
            rank[guide_number(number)] = age + 1
        buckets, tags = self._place(keys)
        entries = tags << _TAG_SHIFT | np.uint64(guide_number(sequence)) << _GENERATION_SHIFT | blocks.view(np.uint64)
        for _ in range(_INSERT_ROUNDS):
            bucket = self._table.take(buckets, axis=0)  # (n, ways)
            worth = rank[((bucket >> _GENERATION_SHIFT) & _GENERATION_MASK).view(np.int64)]
            worth[bucket == 0] = 0
            worth[(bucket >> _TAG_SHIFT) == tags[:, None]] = -1  # the same key, or one that can't be told from it
            self._table[buckets, worth.argmin(axis=1)] = entries
            lost = ~(self._table.take(buckets, axis=0) == entries[:, None]).any(axis=1)
            if not lost.any():
                return
            buckets, tags, entries = buckets[lost], tags[lost], entries[lost]

    def _place(self, keys: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
        """Find each key's bucket and tag; content hashes are uniform, so their bits are used as they stand.

        Their first bytes are not used: a batch in the order of its keys would crowd into a few buckets.
        """
        words = keys.view("<u8")  # (n, 6): two of the prefix, four of the content hash
        return ((words[:, 4] ^ words[:, 0]) & self._mask).view(np.int64), np.maximum(words[:, 3] >> _TAG_SHIFT, _ONE)


def guide_number(sequence: int) -> int:
    """Tell the number that stands for a generation in the guide's entries: the last 12 bits of its sequence number."""
    return sequence & int(_GENERATION_MASK)


def open_guide(path: Path, *, writable: bool) -> Guide | None:
    """Map the table when there is one that fits; without it every lookup asks the indexes."""
    try:
        return Guide(path, writable=writable)
    except (OSError, ValueError):
        return None
