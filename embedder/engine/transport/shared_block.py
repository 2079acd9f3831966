"""Anonymous shared memory that child processes inherit: no name, so nothing to clean up and nobody else who can open it."""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt


class SharedBlock:
    """Bytes that a process and the children that it hands the descriptor to see alike.

    The system frees them with the last process that has them, however it ends. Pages that nobody touched take no memory.
    """

    def __init__(self, descriptor: int) -> None:
        """Map the block of a descriptor, which stays open for handing on."""
        self.descriptor = descriptor
        self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)

    @classmethod
    def create(cls, name: str, *, size_bytes: int) -> SharedBlock:
        """Make a block of zeros; the name is for people who look into /proc."""
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size_bytes)
        return cls(descriptor)

    @property
    def size_bytes(self) -> int:
        """Length of the block."""
        return len(self._map)

    def array(self, dtype: npt.DTypeLike, count: int, *, offset: int = 0) -> npt.NDArray[np.generic]:
        """Give `count` elements from `offset` on as an array over the block itself."""
        return np.frombuffer(self._map, dtype, count=count, offset=offset)

    def close(self) -> None:
        """Let go of the descriptor; the map goes with the last array over it."""
        os.close(self.descriptor)
