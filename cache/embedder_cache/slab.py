"""The slab: one generation's records, appended in blocks of 64 bytes and read as a mapped array."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheDamaged
from embedder_cache.record import BLOCK_BYTES

FIRST_BLOCK = 1  # block 0 stays zero: it is what a key that was not found points at
_FILE_MODE = 0o600
_WIPE_BYTES = 1 << 20


class Slab:
    """An append-only file of records.

    A block is never given to a second record, so a reader that holds a block's number reads that record, or zeros once
    it was erased, or what its checksum refuses. Where the end is stands in the generation's index, in the same
    transaction as the keys: what was appended and not committed is written over.
    Thread-safe for reading; one thread of one process writes.
    """

    def __init__(self, path: Path, *, writable: bool, growth_bytes: int = 0) -> None:
        """Open the file, or create it when it may be written.

        Args:
            path: the file.
            writable: whether this process appends and erases.
            growth_bytes: how much room is taken from the file system at once.
        Raises:
            CacheDamaged: the file is missing or empty, and may not be created.
            OSError: the file system refuses, for instance because it is full.
        """
        self._path = path
        self._growth_blocks = max(1, growth_bytes // BLOCK_BYTES)
        flags = os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY
        try:
            self._file = os.open(path, flags | os.O_CLOEXEC, _FILE_MODE)
        except FileNotFoundError as error:
            raise CacheDamaged(f"{path.name} of {path.parent.name} is missing") from error
        try:
            if writable and os.fstat(self._file).st_size < BLOCK_BYTES:
                os.posix_fallocate(self._file, 0, self._growth_blocks * BLOCK_BYTES)
            self._mapped = self._map_file()
        except BaseException:
            os.close(self._file)
            raise

    def _map_file(self) -> tuple[mmap.mmap, int]:
        size = os.fstat(self._file).st_size
        if size < BLOCK_BYTES:
            raise CacheDamaged(f"{self._path.name} of {self._path.parent.name} has {size} bytes")
        mapped = mmap.mmap(self._file, size, prot=mmap.PROT_READ)
        mapped.madvise(mmap.MADV_RANDOM)
        return mapped, size // BLOCK_BYTES

    def __del__(self) -> None:
        # Arrays keep the mapping alive by themselves; the descriptor goes with the last reader of this generation.
        file, self._file = getattr(self, "_file", -1), -1
        if file >= 0:
            os.close(file)

    @property
    def file_bytes(self) -> int:
        """Bytes of the file, with the room taken in advance; asks the file system."""
        return os.fstat(self._file).st_size

    def gather(self, blocks: npt.NDArray[np.int64], *, record_blocks: int) -> npt.NDArray[np.uint8]:
        """Copy records out.

        Args:
            blocks: (n,) the first block of each record; 0 gives a record that was never written.
            record_blocks: blocks of each record.
        Returns:
            (n, record_blocks * 64) uint8; zeros where a block lies outside of the file.
        Raises:
            CacheDamaged: the file was cut while it was open.
        """
        mapped, count = self._mapped
        if len(blocks) and blocks.max() + record_blocks > count:
            mapped, count = self._mapped = self._map_file()
        if os.fstat(self._file).st_size < count * BLOCK_BYTES:
            raise CacheDamaged(f"{self._path.name} of {self._path.parent.name} was cut while it was open")
        record_bytes = record_blocks * BLOCK_BYTES
        starts = count - record_blocks + 1
        if starts < 1:
            return np.zeros((len(blocks), record_bytes), np.uint8)
        outside = blocks.view(np.uint64) >= starts  # negative ones too
        any_outside = bool(outside.any())
        if any_outside:
            blocks = np.where(outside, 0, blocks)
        view = np.ndarray((starts,), f"V{record_bytes}", buffer=mapped, strides=(BLOCK_BYTES,))
        records: npt.NDArray[np.uint8] = view[blocks].view(np.uint8).reshape(len(blocks), record_bytes)
        if any_outside:
            records[outside] = 0
        return records

    def write(self, first_block: int, records: npt.NDArray[np.uint8]) -> None:
        """Write records one after another from `first_block` on, taking room first so that none is promised in vain.

        Raises:
            OSError: the file system refuses; nothing that was committed is touched.
        """
        end = first_block + records.size // BLOCK_BYTES
        have = self.file_bytes // BLOCK_BYTES
        if end > have:
            room = max(self._growth_blocks, end - have)
            os.posix_fallocate(self._file, have * BLOCK_BYTES, room * BLOCK_BYTES)
        view = np.ascontiguousarray(records).data.cast("B")
        offset = first_block * BLOCK_BYTES
        while view:
            written = os.pwrite(self._file, view, offset)
            view = view[written:]
            offset += written

    def erase(self, blocks: npt.NDArray[np.int64], *, record_blocks: int) -> None:
        """Overwrite records with zeros, in place; they are gone from the disk after `sync`."""
        zeros = bytes(record_blocks * BLOCK_BYTES)
        for block in blocks.tolist():
            os.pwrite(self._file, zeros, block * BLOCK_BYTES)

    def wipe_from(self, first_block: int) -> None:
        """Overwrite everything from a block on with zeros, where it is not zero already."""
        zeros = bytes(_WIPE_BYTES)
        for offset in range(first_block * BLOCK_BYTES, self.file_bytes, _WIPE_BYTES):
            found = os.pread(self._file, _WIPE_BYTES, offset)
            if found != zeros[: len(found)]:
                os.pwrite(self._file, zeros[: len(found)], offset)

    def sync(self) -> None:
        """Wait until the records are on the disk."""
        os.fdatasync(self._file)
