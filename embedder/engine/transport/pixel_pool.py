"""Pixels on their way to an engine: written once into a slot of shared memory, copied out on arrival.

A slot's header holds the number of the write that filled it. An engine that finds another number than its message says (the
front-end died, and its successor fills the slots anew) refuses the item, before and after copying: stale pixels never meet a hash.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder.engine.transport.shared_block import SharedBlock
from embedder.errors import DeadlineExpired

_HEADER_BYTES = 64
_MAX_SLOTS = 256
POOL_BYTES = 256 << 20  # reserved, not taken: only slots that were in use at once take memory


@dataclass(frozen=True, slots=True)
class SlotReference:
    """Where one image's pixels lie, and the number of the write that put them there."""

    slot: int
    write: int


class _Slots:
    """The pool cut into slots of one image each."""

    def __init__(self, block: SharedBlock, *, image_size: int) -> None:
        self.shape = (3, image_size, image_size)
        pixels = 3 * image_size * image_size
        stride = _HEADER_BYTES + -(-pixels // _HEADER_BYTES) * _HEADER_BYTES
        self.count = min(_MAX_SLOTS, block.size_bytes // stride) if image_size else 0
        rows = block.array(np.uint8, self.count * stride).reshape(self.count, stride)
        self.writes = rows[:, :8].view(np.uint64)[:, 0]
        self.pixels = rows[:, _HEADER_BYTES : _HEADER_BYTES + pixels]


class PixelWriter:
    """A front-end's side: takes a free slot for each image, and waits when there is none. Thread-safe."""

    def __init__(self, block: SharedBlock, *, image_size: int) -> None:
        self._slots = _Slots(block, image_size=image_size)
        self._free = list(range(self._slots.count))[::-1]  # the lowest first, so that few pages are ever touched
        self._lent: set[int] = set()  # written, and the engine's to read
        self._next_write = secrets.randbits(62)
        self._condition = threading.Condition()

    def write(self, pixels: npt.NDArray[np.uint8], *, deadline: float) -> SlotReference:
        """Put (3, s, s) uint8 into a slot.

        Args:
            deadline: `time.monotonic()` seconds until which it may wait for a free one.
        Raises:
            DeadlineExpired: none became free.
        """
        with self._condition:
            if not self._condition.wait_for(lambda: self._free, timeout=deadline - time.monotonic()):
                raise DeadlineExpired("the call's deadline passed before the engine could take its pixels")
            slot = self._free.pop()
            self._next_write += 1
            write = self._next_write
        self._slots.writes[slot] = 0
        self._slots.pixels[slot] = pixels.reshape(-1)
        self._slots.writes[slot] = write
        with self._condition:
            self._lent.add(slot)
        return SlotReference(slot, write)

    def free(self, slots: Iterable[int]) -> None:
        """Take slots back that the engine has read, or will never be told of."""
        with self._condition:
            self._take_back(slots)

    def free_all(self) -> None:
        """Take back every slot that the engine had, since it is gone; what is being written now is not among them."""
        with self._condition:
            self._take_back(tuple(self._lent))

    def _take_back(self, slots: Iterable[int]) -> None:
        for slot in slots:
            if slot in self._lent:
                self._lent.remove(slot)
                self._free.append(slot)
        self._condition.notify_all()


class PixelReader:
    """An engine's side."""

    def __init__(self, block: SharedBlock, *, image_size: int) -> None:
        self._slots = _Slots(block, image_size=image_size)

    def read(self, reference: SlotReference) -> npt.NDArray[np.uint8] | None:
        """Copy an image out, (3, s, s) uint8; None when the slot holds another one by now."""
        slots = self._slots
        if reference.slot >= slots.count or int(slots.writes[reference.slot]) != reference.write:
            return None
        pixels: npt.NDArray[np.uint8] = slots.pixels[reference.slot].copy()
        if int(slots.writes[reference.slot]) != reference.write:
            return None
        return pixels.reshape(slots.shape)
