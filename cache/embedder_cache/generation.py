"""One generation: an index in LMDB, a slab of records, and a map of what was asked for lately."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheDamaged
from embedder_cache.index import Index
from embedder_cache.record import BLOCK_BYTES, RecordLayout
from embedder_cache.settings import CacheSettings, Durability
from embedder_cache.slab import FIRST_BLOCK, Slab
from embedder_cache.touches import TouchMap

_INDEX = "index"
_SLAB = "records"
_TOUCHES = "touched"
_GROWTH_STEPS = 32  # a generation takes its room from the file system in so many steps
_MAX_GROWTH_BYTES = 64 << 20
_MIN_GROWTH_BYTES = 64 << 10


@dataclass(frozen=True)
class GenerationRow:
    """What the catalogue knows of a generation.

    Attributes:
        sequence: its number, never given twice; it names the folder.
        order: its place in age; the newest has the highest. A compacted generation keeps its predecessor's.
        created: seconds since 1970.
    """

    sequence: int
    order: int
    created: int

    @property
    def folder(self) -> str:
        """The name of the generation's folder."""
        return f"generation-{self.sequence:08d}"


class Generation:
    """A bounded part of the store that is written once, from front to end, and dropped whole.

    Thread-safe for reading; one thread of one process writes.
    """

    def __init__(self, path: Path, row: GenerationRow, settings: CacheSettings, *, writable: bool) -> None:
        """Open the generation's files after checking that they are whole, or create them when they may be written.

        Raises:
            CacheDamaged: a file is missing, cut or refused by LMDB as damaged.
            CacheLocked, CacheError: the index can't be opened for another reason.
            OSError: the file system refuses, for instance because it is full.
        """
        self.path = path
        self.row = row
        self._sync = settings.durability is Durability.FULL
        if writable and not path.exists():
            path.mkdir(mode=0o700)
        self.index = Index(path / _INDEX, settings=settings, writable=writable)
        try:
            self._open_slab(settings, writable=writable)
        except BaseException:
            self.index.close()
            raise

    def _open_slab(self, settings: CacheSettings, *, writable: bool) -> None:
        share = settings.max_bytes // settings.generations
        growth_bytes = min(max(share // _GROWTH_STEPS, _MIN_GROWTH_BYTES), _MAX_GROWTH_BYTES)
        self.slab = Slab(self.path / _SLAB, writable=writable, growth_bytes=growth_bytes)
        self.touches: TouchMap | None = None
        # A reader that may not mark reads all the same.
        with suppress(FileNotFoundError, PermissionError, ValueError):
            self.touches = TouchMap(self.path / _TOUCHES, max_blocks=share // BLOCK_BYTES, create=writable)
        self.end_block = max(FIRST_BLOCK, self.index.end_block())
        if self.slab.file_bytes < self.end_block * BLOCK_BYTES:
            raise CacheDamaged(
                f"{_SLAB} of {self.path.name} has {self.slab.file_bytes} bytes and needs {self.end_block * BLOCK_BYTES}"
            )

    @property
    def sequence(self) -> int:
        """The generation's number."""
        return self.row.sequence

    @property
    def file_bytes(self) -> int:
        """Bytes of all files of the generation; asks the file system."""
        return folder_bytes(self.path)

    def append(self, parts: list[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]) -> list[npt.NDArray[np.int64]]:
        """Write records and commit them, all or none; durable on return, as far as the settings promise.

        Args:
            parts: for each layout, keys (n, 48) uint8, each once, and sealed records (n, record_bytes) uint8.
        Returns:
            For each part the records' first blocks, (n,) int64.
        Raises:
            OSError, lmdb.Error: nothing was committed.
        """
        placed = []
        end = self.end_block
        for _, records in parts:
            step = records.shape[1] // BLOCK_BYTES
            self.slab.write(end, records)
            placed.append(end + step * np.arange(len(records), dtype=np.int64))
            end += step * len(records)
        if self._sync:
            self.slab.sync()
        self.index.commit(np.concatenate([keys for keys, _ in parts]), np.concatenate(placed), end_block=end)
        self.end_block = end
        return placed

    def erase(self, keys: npt.NDArray[np.uint8], layout: RecordLayout) -> int:
        """Overwrite the records of keys with zeros, on the disk too, and take the keys out; returns how many were here."""
        blocks = self.index.find(keys)
        held = blocks > 0
        if held.any():
            self.slab.erase(blocks[held], record_blocks=layout.blocks)
            self.slab.sync()
            self.index.remove(keys[held])
        return int(held.sum())

    def sync_folders(self) -> None:
        """Wait until the names of the generation's files are on the disk."""
        sync_folder(self.path / _INDEX)
        sync_folder(self.path)

    def unlink(self) -> None:
        """Remove the files; processes that still map them keep them readable until they let go."""
        shutil.rmtree(self.path)


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
