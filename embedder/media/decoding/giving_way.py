"""Giving way: the longer a decode job takes, the less of a busy core it gets.

A job runs in a thread of its worker. The parent, which waits for it, raises that thread's nice value step by step. On Linux each thread
has one of its own, and who may not lower it again can still start a new thread: the worker does, for the next job.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

BASE_NICENESS = 5
"""By how much a worker is nicer than its parent, and so as nice as the device's threads, which wait for its pixels."""

STEPS = ((0.02, 7), (0.1, 14))
"""Seconds that a job has run for, and by how much nicer it is from then on. Few sound files take so long. Beside a device that wants every
core, what a hostile one takes is then a sixth of a core, and at last a twentieth; and all of a core that nobody wants."""


def give_way(pid: int, niceness: int) -> None:
    """Make the job's thread of a worker nicer than the worker by `niceness`; its main thread, which only waits, stays as it is."""
    with suppress(OSError):  # it has just ended, or this system knows no such thing
        base = os.getpriority(os.PRIO_PROCESS, pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            if int(task.name) != pid:
                os.setpriority(os.PRIO_PROCESS, int(task.name), base + niceness)


@dataclass(slots=True)
class _Work:
    """One job on its way to the thread and back."""

    run: Callable[[], None]
    is_done: threading.Event = field(default_factory=threading.Event)


class JobThread:
    """In a worker: runs one job at a time in a thread, which is a new one whenever the last one was made to give way."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._work: _Work | None = None
        self._wake = threading.Semaphore(0)

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, and return when it has ended."""
        if self._thread is None:
            self._wake = threading.Semaphore(0)
            self._thread = threading.Thread(target=self._serve, args=(self._wake,), name="decode", daemon=True)
            self._thread.start()
        work = self._work = _Work(job)
        self._wake.release()
        work.is_done.wait()
        if _has_given_way(self._thread):
            self._work = None
            self._wake.release()
            self._thread.join()
            self._thread = None

    def _serve(self, wake: threading.Semaphore) -> None:
        while wake.acquire() and (work := self._work) is not None:
            try:
                work.run()
            finally:
                work.is_done.set()


def _has_given_way(thread: threading.Thread) -> bool:
    assert thread.native_id is not None
    with suppress(OSError):
        return os.getpriority(os.PRIO_PROCESS, thread.native_id) > os.getpriority(os.PRIO_PROCESS, os.getpid())
    return False
