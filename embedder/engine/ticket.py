"""One call's waiting: the rows it has, the rows it waits for, and the one answer it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import BatchShape, CallTimings, EmbedOptions, HalfVectors, Source
from embedder.errors import DeadlineExpired, EmbedderError


@dataclass(frozen=True, slots=True)
class Delivery:
    """What the device made of one content, for every call that waits for it.

    Attributes:
        vector: (dim,) float16.
        device_seconds: the content's share of its batch.
        prepare_s: seconds of tokenizing or decoding.
        queue_s: seconds from being ready to its batch's start.
        encode_s: seconds of its batch.
        batch: the shape of its batch; None when no batch was run for it.
    """

    vector: npt.NDArray[np.float16]
    device_seconds: float = 0.0
    prepare_s: float = 0.0
    queue_s: float = 0.0
    encode_s: float = 0.0
    batch: BatchShape | None = None


class Ticket:
    """The rows of one call, filled by any thread until none is missing.

    Each item gets exactly one answer: the first delivery or failure counts, a later one is ignored. A call that waits holds a
    thread (`wait`) or holds none (`when_done`).
    """

    def __init__(self, vectors: HalfVectors, found: npt.NDArray[np.bool_], options: EmbedOptions) -> None:
        self.options = options
        self.vectors = vectors
        self.sources = found.view(np.uint8) * np.uint8(Source.CACHE)  # 0: not answered yet
        self.failures: dict[int, EmbedderError] = {}
        self.timings = CallTimings()
        self.device_seconds = 0.0
        self.batch: BatchShape | None = None
        self._lock = threading.Lock()
        self._missing = int(found.size - np.count_nonzero(found))
        self._closed = False
        self._on_done: list[Callable[[], None]] = []

    @property
    def is_done(self) -> bool:
        """Whether every row has its answer."""
        return self._missing == 0

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for the missing rows."""
        return not self._closed

    def waits_for(self, index: int) -> bool:
        """Whether somebody still waits for one row, if it is missing."""
        return not self._closed

    def deliver(self, index: int, delivery: Delivery, source: Source) -> None:
        """Fill one row."""
        with self._lock:
            if self._closed or self.sources[index]:
                return
            self.vectors[index] = delivery.vector
            self.sources[index] = source
            if source is Source.COMPUTED:
                self.device_seconds += delivery.device_seconds
            if delivery.batch is not None:
                self.batch = delivery.batch
            timings = self.timings
            timings.prepare_s = max(timings.prepare_s, delivery.prepare_s)
            timings.queue_s = max(timings.queue_s, delivery.queue_s)
            timings.encode_s = max(timings.encode_s, delivery.encode_s)
            callbacks = self._count_down(1)
        _run(callbacks)

    def fail(self, index: int, error: EmbedderError) -> None:
        """Answer one item with an error; its row stays zero."""
        with self._lock:
            if self._closed or self.sources[index]:
                return
            self.sources[index] = Source.FAILED
            self.failures[index] = error
            callbacks = self._count_down(1)
        _run(callbacks)

    def when_done(self, callback: Callable[[], None]) -> None:
        """Run `callback` once every row is answered: now if that is so already, else in the thread that answers the last one."""
        with self._lock:
            if self._missing:
                self._on_done.append(callback)
                return
        callback()

    def wait(self) -> None:
        """Block until every row is answered or the deadline passes; what is missing then fails as expired."""
        if self._missing == 0:
            return
        done = threading.Event()
        self.when_done(done.set)
        if not done.wait(max(0.0, self.options.deadline - time.monotonic())):
            self.abandon()

    def abandon(self) -> None:
        """Fail every missing row as expired, since the caller no longer waits.

        Nothing is delivered afterwards, and work that only this call waited for never reaches the device.
        """
        with self._lock:
            self._closed = True
            if self._missing == 0:
                return
            for index in np.flatnonzero(self.sources == 0):
                self.sources[index] = Source.FAILED
                self.failures[int(index)] = DeadlineExpired("the call ended before the vector was computed")
            callbacks = self._count_down(self._missing)
        _run(callbacks)

    def _count_down(self, answered: int) -> list[Callable[[], None]]:
        """Count answered rows; returns what is to be run, outside the lock, once none is missing."""
        self._missing -= answered
        if self._missing:
            return []
        callbacks, self._on_done = self._on_done, []
        return callbacks


def _run(callbacks: list[Callable[[], None]]) -> None:
    for callback in callbacks:
        callback()
