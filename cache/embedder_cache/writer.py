"""The writer thread: queued puts and other changes, committed in groups."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

import lmdb
import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheBackpressure, CacheClosed, CacheError, CacheWriteFailed
from embedder_cache.key import SpaceKey
from embedder_cache.tier import AskedAt

_log = logging.getLogger(__name__)

_STORE_ERRORS = (OSError, lmdb.Error, CacheError)


@dataclass(frozen=True)
class PutRequest:
    """One put that waits for its commit.

    Attributes:
        space: the space of one tenant.
        keys: (n, 48) uint8.
        vectors: (n, dim) float16.
        asked_at: when the vectors' making began, seconds since 1970; what was erased since is not stored.
        committed: its answer.
    """

    space: SpaceKey
    keys: npt.NDArray[np.uint8]
    vectors: npt.NDArray[np.float16]
    asked_at: AskedAt
    committed: Future[None]

    @property
    def queue_bytes(self) -> int:
        """Bytes that it holds while it waits."""
        return self.keys.nbytes + self.vectors.nbytes


@dataclass(frozen=True)
class _Task:
    """One other change, run between two commits."""

    run: Callable[[], Any]
    done: Future[Any]


class WriteTarget(Protocol):
    """What the writer thread drives."""

    def commit(self, requests: list[PutRequest]) -> None:
        """Commit a group; raises OSError, lmdb.Error or CacheError when nothing of it was committed."""

    def maintain(self) -> bool:
        """Do one small piece of upkeep; returns whether more is to be done at once."""


class Writer:
    """The one thread of the one process that changes the store.

    A put waits in a bounded queue; while one group commits, the next one gathers. Every request gets exactly one
    answer.
    """

    def __init__(
        self, target: WriteTarget, *, max_queue_bytes: int, max_commit_entries: int, upkeep_interval_s: float
    ) -> None:
        self._target = target
        self._max_queue_bytes = max_queue_bytes
        self._max_commit_entries = max_commit_entries
        self._upkeep_interval_s = upkeep_interval_s
        self._changed = threading.Condition()
        self._queue: deque[PutRequest | _Task] = deque()
        self._queued_bytes = 0
        self._closing = False
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="embedder-cache-writer", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait for their commit."""
        return self._queued_bytes

    def put(self, request: PutRequest) -> None:
        """Queue a put.

        Raises:
            CacheBackpressure: the queue is full; nothing was queued.
            CacheClosed: the writer is closing.
        """
        with self._changed:
            self._refuse_when_closing()
            if self._queue and self._queued_bytes + request.queue_bytes > self._max_queue_bytes:
                raise CacheBackpressure(
                    f"{self._queued_bytes} bytes wait for their commit; max_queue_bytes={self._max_queue_bytes}"
                )
            self._queue.append(request)
            self._queued_bytes += request.queue_bytes
            self._changed.notify()

    def call(self, run: Callable[[], Any]) -> Future[Any]:
        """Queue another change, behind everything that was put before it.

        Raises:
            CacheClosed: the writer is closing.
        """
        task = _Task(run, Future())
        with self._changed:
            self._refuse_when_closing()
            self._queue.append(task)
            self._changed.notify()
        return task.done

    def close(self) -> None:
        """Commit what is queued and end the thread; waits for both."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def _refuse_when_closing(self) -> None:
        if self._closing:
            raise CacheClosed("the cache is closed")

    def _run(self) -> None:
        try:
            self._serve()
        finally:
            self._abandon()

    def _serve(self) -> None:
        busy = True
        while True:
            with self._changed:
                if not self._queue and not self._closing and not busy:
                    self._changed.wait(self._upkeep_interval_s)
                if not self._queue and self._closing:
                    return
                group = self._take_group()
            if isinstance(group, _Task):
                self._run_task(group)
            elif group:
                self._commit(group)
            busy = self._maintain()

    def _abandon(self) -> None:
        """Answer whoever still waits when the thread ends, so that nobody waits for ever."""
        with self._changed:
            self._closing = True
            waiting = [item.committed if isinstance(item, PutRequest) else item.done for item in self._queue]
            self._queue.clear()
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(CacheClosed("the cache's writer ended"))

    def _take_group(self) -> list[PutRequest] | _Task:
        """Take the next task, or the puts before it as far as one commit goes."""
        group: list[PutRequest] = []
        entries = 0
        while self._queue and entries < self._max_commit_entries:
            head = self._queue[0]
            if isinstance(head, _Task):
                if group:
                    break
                self._queue.popleft()
                return head
            self._queue.popleft()
            self._queued_bytes -= head.queue_bytes
            group.append(head)
            entries += len(head.keys)
        return group

    def _commit(self, group: list[PutRequest]) -> None:
        live = [request for request in group if request.committed.set_running_or_notify_cancel()]
        try:
            self._target.commit(live)
        except _STORE_ERRORS as error:
            self._note_failure(error)
            for request in live:
                request.committed.set_exception(CacheWriteFailed(f"the commit failed: {error}"))
        except BaseException as error:
            # A bug: the waiters are answered, and the thread's end says so loudly.
            for request in live:
                request.committed.set_exception(error)
            raise
        else:
            self._note_success()
            for request in live:
                request.committed.set_result(None)

    def _run_task(self, task: _Task) -> None:
        if not task.done.set_running_or_notify_cancel():
            return
        try:
            task.done.set_result(task.run())
        except _STORE_ERRORS as error:
            task.done.set_exception(error)
        except BaseException as error:
            # A bug: the waiter is answered, and the thread's end says so loudly.
            task.done.set_exception(error)
            raise

    def _maintain(self) -> bool:
        try:
            return self._target.maintain()
        except _STORE_ERRORS as error:
            self._note_failure(error)
            return False

    def _note_failure(self, error: BaseException) -> None:
        """Log the first failure of a row only: a full disk fails every commit."""
        if not self._failing:
            self._failing = True
            _log.error("the cache can't write, and goes on reading: %s", error)

    def _note_success(self) -> None:
        if self._failing:
            self._failing = False
            _log.warning("the cache writes again")
