"""A slot: memory that one worker shares with its parent, for a file on its way in and pixels on their way out."""

from __future__ import annotations

import fcntl
import mmap
import os

import numpy as np

from embedder.media.decoding.job import Frame

# Below this much, emptied pages are kept for the next job rather than given back: giving back costs more than they do.
_KEPT_BYTES = 8 << 20


class DecodeSlot:
    """One mapping of anonymous shared memory: the file first, then the pixels.

    It is as large as the limits allow from the start and takes memory only where it is written. Its size is sealed, so
    that a worker that was taken over can't shrink it under the parent's feet (reading what is gone would be a SIGBUS).
    """

    def __init__(self, fd: int, *, file_bytes: int, pixel_bytes: int) -> None:
        """Map an open slot; `create` makes one."""
        self.fd = fd
        self.file_bytes = file_bytes
        self.pixel_bytes = pixel_bytes
        self._pixels_at = _whole_pages(file_bytes)
        self._map = mmap.mmap(fd, self._pixels_at + pixel_bytes)

    @classmethod
    def create(cls, *, file_bytes: int, pixel_bytes: int) -> DecodeSlot:
        """Make a slot for files and pixels of at most these sizes."""
        fd = os.memfd_create("embedder-decode", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, _whole_pages(file_bytes) + pixel_bytes)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
        return cls(fd, file_bytes=file_bytes, pixel_bytes=pixel_bytes)

    def write_file(self, data: bytes) -> None:
        """Put a file in."""
        self._map[: len(data)] = data

    def read_file(self, length: int) -> memoryview:
        """Return the file, without copying it."""
        return memoryview(self._map)[:length].toreadonly()

    def pixels(self, height: int, width: int) -> Frame:
        """Return the slot's pixels as (height, width, 3) uint8, without copying them; (0, 0, 3) where they don't fit."""
        if height * width * 3 > self.pixel_bytes:
            height = width = 0
        flat = np.frombuffer(self._map, np.uint8, count=height * width * 3, offset=self._pixels_at)
        return flat.reshape(height, width, 3)

    def empty(self, *, file_bytes: int, pixel_bytes: int) -> None:
        """Give the memory back that a large file or picture took."""
        if file_bytes > _KEPT_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, 0, _whole_pages(file_bytes))
        if pixel_bytes > _KEPT_BYTES:
            self._map.madvise(mmap.MADV_REMOVE, self._pixels_at, _whole_pages(pixel_bytes))

    def close(self) -> None:
        """Close the descriptor; the memory goes when the last array on it does."""
        os.close(self.fd)


def _whole_pages(length: int) -> int:
    return -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
