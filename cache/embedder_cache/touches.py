"""The touch map: when each record of a generation was asked for last, counted in generations."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

_BLOCKS_PER_MARK_SHIFT = 3  # one byte for 512 bytes of records; smaller records share theirs
_ERAS = 255


class TouchMap:
    """One byte for each 512 bytes of a slab, marked by every process that reads.

    A mark is the era of the last hit: the number of the newest generation then. Marks are hints for the collector, so
    readers set them without any lock, and an unwritable map is left alone.
    """

    def __init__(self, path: Path, *, max_blocks: int, create: bool) -> None:
        """Map the file; it is made with room for `max_blocks` blocks when this process writes.

        Raises:
            OSError: the file is missing, or the file system refuses.
        """
        marks = (max_blocks >> _BLOCKS_PER_MARK_SHIFT) + 1
        flags = os.O_RDWR | (os.O_CREAT if create else 0) | os.O_CLOEXEC
        file = os.open(path, flags, 0o600)
        try:
            if create and os.fstat(file).st_size < marks:
                os.posix_fallocate(file, 0, marks)
            self._marks = np.frombuffer(mmap.mmap(file, os.fstat(file).st_size), np.uint8)
        finally:
            os.close(file)
        self.file_bytes = self._marks.nbytes

    def mark(self, blocks: npt.NDArray[np.int64], *, era: int) -> None:
        """Mark records as asked for in an era; those that bear its mark already are not written again."""
        places = blocks >> _BLOCKS_PER_MARK_SHIFT
        mark = np.uint8(1 + era % _ERAS)
        stale = self._marks.take(places, mode="clip") != mark
        if stale.any():
            places = places[stale]
            self._marks[places[places < len(self._marks)]] = mark

    def ages(self, blocks: npt.NDArray[np.int64], *, era: int) -> npt.NDArray[np.int64]:
        """Tell how many eras ago records were asked for: (n,) int64, -1 for never."""
        return _ages(self._marks.take(blocks >> _BLOCKS_PER_MARK_SHIFT, mode="clip"), era)

    def histogram(self, *, era: int) -> npt.NDArray[np.int64]:
        """Count marks by age: (255,) int64, index 0 for this era."""
        counts = np.bincount(self._marks, minlength=_ERAS + 1)[1:]
        return np.roll(counts[::-1], era % _ERAS + 1)


def _ages(marks: npt.NDArray[np.uint8], era: int) -> npt.NDArray[np.int64]:
    ages = (era % _ERAS + 1 - marks.astype(np.int64)) % _ERAS
    ages[marks == 0] = -1
    return ages
