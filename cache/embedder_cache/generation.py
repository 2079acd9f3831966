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
from embedder_cache.key import KEY_BYTES
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

    def wipe_tail(self) -> None:
        """Overwrite what a crash left behind the committed end; nothing leads there, so nothing would erase it."""
        self.slab.wipe_from(self.end_block)

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
        keys = np.concatenate([keys for keys, _ in parts])
        replaced = self.index.find(keys)
        for _, records in parts:
            step = records.shape[1] // BLOCK_BYTES
            self.slab.write(end, records)
            placed.append(end + step * np.arange(len(records), dtype=np.int64))
            end += step * len(records)
        if self._sync:
            self.slab.sync()
        self.index.commit(keys, np.concatenate(placed), end_block=end)
        self.end_block = end
        if replaced.any():
            # Nothing leads there any more, so nothing would erase it.
            steps = np.concatenate([np.full(len(records), records.shape[1] // BLOCK_BYTES) for _, records in parts])
            own = self._echoes(replaced, keys)
            for step in np.unique(steps[own]).tolist():
                self.slab.erase(replaced[own & (steps == step)], record_blocks=step)
        return placed

    def erase(self, keys: npt.NDArray[np.uint8], layout: RecordLayout, *, guessed: npt.NDArray[np.int64]) -> int:
        """Overwrite the records of keys with zeros, on the disk too, and take the keys out.

        A block whose record does not echo the key, because one of them was damaged, is left alone: it may be another's.

        Args:
            keys: (n, 48) uint8.
            layout: their records' layout.
            guessed: (n,) int64, where the guide believes the records; 0 where it knows none. What it knows must go too.
        Returns:
            How many keys were here.
        """
        blocks = self.index.find(keys)
        here = blocks > 0
        for places in (blocks, guessed):
            own = self._echoes(places, keys)
            here |= own
            self.slab.erase(places[own], record_blocks=layout.blocks)
        if here.any():
            self.slab.sync()
            self.index.remove(keys[here])
        return int(here.sum())

    def _echoes(self, blocks: npt.NDArray[np.int64], keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Say at which blocks a record of its key begins."""
        headers = self.slab.gather(blocks, record_blocks=1)
        return np.asarray((headers[:, :KEY_BYTES] == keys).all(axis=1) & (blocks > 0), np.bool_)

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
