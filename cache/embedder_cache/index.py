"""The index: one generation's keys in LMDB, each with the block where its record starts."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import TypeVar

import lmdb
import numpy as np
import numpy.typing as npt

from embedder_cache.environment import open_environment
from embedder_cache.errors import CacheDamaged
from embedder_cache.gate import Gate
from embedder_cache.key import KEY_BYTES, key_list
from embedder_cache.settings import CacheSettings, Durability

T = TypeVar("T")

_ABSENT = bytes(8)
_BLOCK = struct.Struct("<q")
_END = b"end"  # shorter than any stored key
_FIRST_MAP_BYTES = 1 << 20


class Index:
    """Key to first block, and where the slab ends, in one LMDB environment.

    Every transaction is short: one for a batch. Thread-safe for reading; one thread of one process writes.
    """

    def __init__(self, path: Path, *, settings: CacheSettings, writable: bool) -> None:
        """Open the environment, or create it when it may be written.

        Raises:
            CacheDamaged, CacheLocked, CacheError: as `open_environment`.
        """
        self._path = path
        self._gate = Gate()
        full = settings.durability is Durability.FULL
        self._environment = open_environment(
            path,
            writable=writable,
            map_bytes=_FIRST_MAP_BYTES,
            max_readers=settings.max_readers,
            metasync=full,
            writemap=False,
            readahead=False,
        )

    def close(self) -> None:
        """Close the environment, when no thread of this process is reading any more."""
        with self._gate.exclusive():
            self._environment.close()

    @property
    def file_bytes(self) -> int:
        """Bytes of the LMDB file; asks the file system."""
        return (self._path / "data.mdb").stat().st_size

    def __len__(self) -> int:
        """Count the keys."""
        with self._gate.shared():
            entries: int = self._environment.stat()["entries"]
        return max(0, entries - 1)

    def reader_check(self) -> int:
        """Free the slots of readers that died; returns how many."""
        freed: int = self._environment.reader_check()
        return freed

    def _read(self, work: Callable[[lmdb.Transaction], T]) -> T:
        """Do work in one read transaction, after mending what other processes did: a grown map, slots of dead readers.

        Raises:
            CacheDamaged: LMDB found its file inconsistent.
        """
        while True:
            self._gate.enter()
            try:
                with self._begin() as transaction:
                    return work(transaction)
            except lmdb.MapResizedError:
                pass
            except lmdb.Error as error:
                raise CacheDamaged(f"the index of {self._path.parent.name} can't be read: {error}") from error
            finally:
                self._gate.leave()
            self._adopt_map()

    def _begin(self) -> lmdb.Transaction:
        try:
            return self._environment.begin()
        except lmdb.ReadersFullError:
            self._environment.reader_check()
            return self._environment.begin()

    def _adopt_map(self) -> None:
        """Take over the map size that another process gave the file."""
        with self._gate.exclusive():
            self._environment.set_mapsize(0)

    def find(self, keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
        """Look keys up in one transaction.

        Args:
            keys: (n, 48) uint8.
        Returns:
            (n,) int64, the first block of each record; 0 where the key is not here.
        Raises:
            CacheDamaged: LMDB found its file inconsistent.
        """
        wanted = key_list(keys)
        found = self._read(lambda transaction: b"".join(map(transaction.get, wanted, repeat(_ABSENT))))
        if len(found) != len(wanted) * _BLOCK.size:
            raise CacheDamaged(f"the index of {self._path.parent.name} holds a value of the wrong length")
        return np.frombuffer(found, "<i8")

    def end_block(self) -> int:
        """Read where the slab's committed part ends; 0 when nothing was committed."""
        value = self._read(lambda transaction: transaction.get(_END))
        return int(_BLOCK.unpack(value)[0]) if value and len(value) == _BLOCK.size else 0

    def commit(self, keys: npt.NDArray[np.uint8], blocks: npt.NDArray[np.int64], *, end_block: int) -> None:
        """Point keys at blocks, and note the slab's new end, in one transaction that is durable on return.

        Args:
            keys: (n, 48) uint8, each once.
            blocks: (n,) int64.
            end_block: the first block that is free now.
        Raises:
            lmdb.Error: nothing was changed, for instance because the disk is full.
        """
        values = np.ascontiguousarray(blocks, "<i8").view("V8").ravel().tolist()
        items = sorted(zip(key_list(keys), values, strict=True))
        self._write([*items, (_END, _BLOCK.pack(end_block))], remove=[])

    def remove(self, keys: npt.NDArray[np.uint8]) -> None:
        """Take keys out, in one transaction."""
        self._write([], remove=key_list(keys))

    def _write(self, items: list[tuple[bytes, bytes]], *, remove: list[bytes]) -> None:
        while True:
            try:
                with self._gate.shared(), self._environment.begin(write=True) as transaction:
                    for key in remove:
                        transaction.delete(key)
                    if items:
                        transaction.cursor().putmulti(items)
                return
            except lmdb.MapFullError:
                self._grow()

    def _grow(self) -> None:
        """Double the map; the address space is reserved, the file grows only as pages are used."""
        with self._gate.exclusive():
            self._environment.set_mapsize(2 * self._environment.info()["map_size"])

    def scan(
        self, prefix: bytes = b"", *, batch: int = 4096
    ) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]]:
        """Walk the keys that start with `prefix` in order, one short transaction for each batch.

        Yields:
            keys (n, 48) uint8 and their blocks (n,) int64, n <= batch.
        """
        start = prefix
        while True:
            items = self._read(partial(_scan_batch, start=start, prefix=prefix, batch=batch))
            if items:
                keys = np.frombuffer(b"".join([key for key, _ in items]), np.uint8).reshape(-1, KEY_BYTES)
                yield keys, np.frombuffer(b"".join([value for _, value in items]), "<i8")
            if len(items) < batch:
                return
            start = items[-1][0] + b"\0"


def _scan_batch(transaction: lmdb.Transaction, *, start: bytes, prefix: bytes, batch: int) -> list[tuple[bytes, bytes]]:
    """Read the first entries from `start` on whose keys begin with `prefix`."""
    items: list[tuple[bytes, bytes]] = []
    with transaction.cursor() as cursor:
        if not cursor.set_range(start):
            return items
        for key, value in cursor:
            entry = bytes(key), bytes(value)
            if not entry[0].startswith(prefix) or len(items) == batch:
                break
            if len(entry[0]) == KEY_BYTES and len(entry[1]) == _BLOCK.size:
                items.append(entry)
    return items
