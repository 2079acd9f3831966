"""One generation: an index in LMDB, a slab of records, and a map of what was asked for lately."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheDamaged
from embedder_cache.index import Index
from embedder_cache.precheck import check_lmdb_file
from embedder_cache.record import BLOCK_BYTES, RecordLayout
from embedder_cache.settings import CacheSettings
from embedder_cache.slab import FIRST_BLOCK, Slab

_INDEX = "index"
_SLAB = "records"
_GROWTH_STEPS = 32  # a generation takes its room from the file system in so many steps


class Generation:
    """A bounded part of the store that is written once, from front to end, and dropped whole."""

    def __init__(self, path: Path, *, sequence: int, settings: CacheSettings, writable: bool) -> None:
        """Open the generation's files after checking that they are whole, or create them when they may be written.

        Raises:
            CacheDamaged: a file is missing, cut or refused by LMDB.
        """
        self.path = path
        self.sequence = sequence
        self.hits = 0
        if writable and not path.exists():
            path.mkdir(mode=0o700)
        index_file = path / _INDEX / "data.mdb"
        if index_file.exists() or not writable:
            check_lmdb_file(index_file)
        growth_bytes = max(64 * 1024, settings.max_bytes // settings.generations // _GROWTH_STEPS)
        self.index = Index(path / _INDEX, settings=settings, writable=writable)
        self.slab = Slab(path / _SLAB, writable=writable, growth_bytes=min(growth_bytes, 64 << 20))
        self.end_block = max(FIRST_BLOCK, self.index.end_block())
        if self.slab.file_bytes < self.end_block * BLOCK_BYTES:
            raise CacheDamaged(
                f"{_SLAB} of {path.name} has {self.slab.file_bytes} bytes and needs {self.end_block * BLOCK_BYTES}"
            )

    @property
    def file_bytes(self) -> int:
        """Bytes of all files of the generation; asks the file system."""
        return self.slab.file_bytes + self.index.file_bytes

    def read(
        self, keys: npt.NDArray[np.uint8], layout: RecordLayout
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
        """Read the records of a batch, unchecked.

        Args:
            keys: (n, 48) uint8.
            layout: the records' layout.
        Returns:
            blocks (n,) int64, 0 where the key is not here, and records (n, record_bytes) uint8.
        Raises:
            CacheDamaged: a file was found inconsistent.
        """
        blocks = self.index.find(keys)
        return blocks, self.slab.gather(blocks, record_blocks=layout.blocks)

    def append(self, parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]], *, sync: bool) -> None:
        """Write records and commit them, all or none.

        Args:
            parts: for each layout, keys (n, 48) uint8, each once, and sealed records (n, record_bytes) uint8.
            sync: whether the records must survive a loss of power.
        Raises:
            OSError, lmdb.Error: nothing was committed.
        """
        keys, blocks, end = [], [], self.end_block
        for part_keys, records in parts:
            step = records.shape[1] // BLOCK_BYTES
            self.slab.write(end, records)
            keys.append(part_keys)
            blocks.append(end + step * np.arange(len(records), dtype=np.int64))
            end += step * len(records)
        if sync:
            self.slab.sync()
        self.index.commit(np.concatenate(keys), np.concatenate(blocks), end_block=end)
        self.end_block = end

    def erase(self, keys: npt.NDArray[np.uint8], layout: RecordLayout, *, sync: bool) -> int:
        """Overwrite the records of keys with zeros and take the keys out; returns how many were here."""
        blocks = self.index.find(keys)
        held = blocks > 0
        if held.any():
            self.slab.erase(blocks[held], record_blocks=layout.blocks)
            if sync:
                self.slab.sync()
            self.index.remove(keys[held])
        return int(held.sum())

    def unlink(self) -> None:
        """Remove the files; processes that still map them keep them readable until they let go."""
        shutil.rmtree(self.path)


def generation_name(sequence: int) -> str:
    """Name a generation's folder by its sequence number."""
    return f"generation-{sequence:08d}"


def folder_bytes(path: Path) -> int:
    """Sum the bytes of all files below a folder; files that vanish meanwhile count nothing."""
    total = 0
    for root, _, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(root, name)).st_size
            except FileNotFoundError:
                continue
    return total
