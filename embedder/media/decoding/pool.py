"""The decode pool: worker processes that take decode jobs; one that dies or hangs is replaced, and only its item fails."""

from __future__ import annotations

import threading
from collections.abc import Generator

import structlog

from embedder.errors import Unavailable
from embedder.media.decoding.job import Decoded, DecodeJob
from embedder.media.decoding.process import WorkerProcess

_log = structlog.get_logger(__name__)


class DecodePool:
    """A fixed number of decode workers. Thread-safe: a thread waits for a worker, and then for its pictures."""

    def __init__(self, *, workers: int, file_bytes: int, pixel_bytes: int) -> None:
        """Start the workers; they get ready while the caller goes on.

        Args:
            workers: how many processes, at least 1.
            file_bytes: the largest file.
            pixel_bytes: the largest picture, 3 bytes a pixel.
        """
        self._file_bytes = file_bytes
        self._pixel_bytes = pixel_bytes
        self._condition = threading.Condition()
        self._is_closed = False
        self._workers = {self._start() for _ in range(workers)}
        self._idle: list[WorkerProcess] = list(self._workers)
        self._replaced = 0

    @property
    def replaced(self) -> int:
        """How many workers have died or hung, and were replaced."""
        return self._replaced

    @property
    def pids(self) -> list[int]:
        """Process ids of the workers."""
        with self._condition:
            return sorted(worker.pid for worker in self._workers)

    def run(self, job: DecodeJob) -> Generator[Decoded, None, None]:
        """Run a job; see `embedder.media.decoding.job.Decoder`."""
        worker = self._take()
        try:
            yield from worker.run(job)
        finally:
            self._give(worker)

    def close(self) -> None:
        """End the workers; jobs under way fail."""
        with self._condition:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._condition.notify_all()
            self._workers.difference_update(idle)
        for worker in idle:
            worker.close()

    def _start(self) -> WorkerProcess:
        return WorkerProcess(file_bytes=self._file_bytes, pixel_bytes=self._pixel_bytes)

    def _take(self) -> WorkerProcess:
        with self._condition:
            self._condition.wait_for(lambda: self._idle or self._is_closed)
            if self._is_closed:
                raise Unavailable("the service is shutting down")
            worker = self._idle.pop()
        if worker.is_usable():
            return worker
        worker = self._replace(worker)  # it died while it was idle, which is nobody's item's fault
        if worker.is_usable():
            return worker
        self._give_back(worker)
        raise Unavailable("a decode worker could not be started; try again")

    def _give(self, worker: WorkerProcess) -> None:
        """Take a worker back, or start another in its place."""
        if not self._is_closed and not worker.is_usable():
            worker = self._replace(worker)
        self._give_back(worker)

    def _give_back(self, worker: WorkerProcess) -> None:
        with self._condition:
            if not self._is_closed:
                self._idle.append(worker)
                self._condition.notify()
                return
            self._workers.discard(worker)
        worker.close()

    def _replace(self, worker: WorkerProcess) -> WorkerProcess:
        """Start another worker; where that fails, the old one stays in its place, to be replaced when it is next wanted."""
        _log.warning("decode worker replaced", pid=worker.pid)
        try:
            fresh = self._start()
        except OSError as error:
            _log.error("a decode worker could not be started", error=repr(error))
            return worker
        worker.close()
        with self._condition:
            self._replaced += 1
            self._workers.discard(worker)
            self._workers.add(fresh)
        return fresh
