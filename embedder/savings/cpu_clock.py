"""CPU time of the threads that run the forward pass, told apart from everything else that the process does."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from pathlib import Path

_NAME = "embed-"
_TASKS = Path("/proc/self/task")
# The forward pass starts its helpers within its first batches; afterwards, one that is new is found within this many.
_LOOK_AT_FIRST = 8
_LOOK_EVERY = 256


class ThreadFamilyClock:
    """Sums the CPU time of the calling thread, of all threads that it started, such as OpenMP's, and of a pool of its helpers.

    On Linux a new thread takes its parent's name, and each thread has a CPU clock of its own that its id names: so the calling thread
    is given a name at its first reading, and whoever bears it later is its child. Elsewhere the whole process is counted.
    Read by one thread.
    """

    def __init__(self, *, pool_name: str = "", pool: Collection[int] | None = None) -> None:
        """Start counting.

        Args:
            pool_name: how the names begin of Python threads that work for the calling one and that another started; empty for none.
            pool: native ids of those of them that count; None counts all, as is right where one thread runs forward passes.
        """
        self._pool_name = pool_name
        self._pool = pool
        self._name = ""
        self._is_told_apart = _TASKS.is_dir()
        self._owner = 0
        self._clock_ids: list[int] = []
        self._readings = 0
        if self._is_told_apart:
            self.source = "CPU clocks of the threads that run the forward pass"
            self.boundary = "all cores together; other threads of the process, tokenizing among them, left out"
        else:
            self.source = "CPU time of the process"
            self.boundary = "all cores together; whatever else the process did meanwhile counted in"

    def start(self) -> float:
        """Mark a moment."""
        return self.seconds()

    def stop(self, mark: float) -> float:
        """Return CPU seconds since a mark."""
        return self.seconds() - mark

    def seconds(self) -> float:
        """Return CPU seconds so far; only differences mean something."""
        if not self._is_told_apart:
            return time.process_time()
        if self._owner != threading.get_native_id():
            self._adopt()
        elif self._readings < _LOOK_AT_FIRST or self._readings % _LOOK_EVERY == 0:
            self._look()
        self._readings += 1
        return sum(map(_thread_ns, self._clock_ids)) * 1e-9

    def _adopt(self) -> None:
        """Name the calling thread, which helpers that it starts from now on inherit."""
        self._owner, self._readings = threading.get_native_id(), 0
        self._name = f"{_NAME}{self._owner}"  # its own, so that two encoders' threads are told apart
        (_TASKS / str(self._owner) / "comm").write_text(self._name)
        self._look()

    def _look(self) -> None:
        """Find the threads of the name."""
        found = [
            _clock_id(thread.native_id)
            for thread in threading.enumerate()
            if self._pool_name and thread.name.startswith(self._pool_name) and thread.native_id
            if self._pool is None or thread.native_id in self._pool
        ]
        for thread in os.listdir(_TASKS):
            try:
                name = (_TASKS / thread / "comm").read_text()
            except OSError:
                continue  # it has ended since
            if name.rstrip("\n") == self._name:
                found.append(_clock_id(int(thread)))
        self._clock_ids = found


def _clock_id(thread: int) -> int:
    """Return the id of a thread's CPU clock, as Linux makes it: the inverted id, 4 for one thread, 2 for scheduled time."""
    return (~thread << 3) | 6


def _thread_ns(clock_id: int) -> int:
    try:
        return time.clock_gettime_ns(clock_id)
    except OSError:
        return 0  # the thread has ended
