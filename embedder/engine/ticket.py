"""One call's waiting: the rows it has, the rows it waits for, and the one answer it gets."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import CallTimings, EmbedOptions, HalfVectors, Source
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
    """

    vector: npt.NDArray[np.float16]
    device_seconds: float = 0.0
    prepare_s: float = 0.0
    queue_s: float = 0.0
    encode_s: float = 0.0


class Ticket:
    """The rows of one call, filled by any thread until none is missing.

    Each item gets exactly one answer: the first delivery or failure counts, a later one is ignored.
    """

    def __init__(self, vectors: HalfVectors, found: npt.NDArray[np.bool_], options: EmbedOptions) -> None:
        self.options = options
        self.vectors = vectors
        self.sources = np.where(found, np.uint8(Source.CACHE), np.uint8(0))
        self.failures: dict[int, EmbedderError] = {}
        self.timings = CallTimings()
        self.device_seconds = 0.0
        self.done: Future[None] = Future()
        self._lock = threading.Lock()
        self._missing = int(found.size - np.count_nonzero(found))
        self._closed = False
        if self._missing == 0:
            self.done.set_result(None)

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for the missing rows."""
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
            timings = self.timings
            timings.prepare_s = max(timings.prepare_s, delivery.prepare_s)
            timings.queue_s = max(timings.queue_s, delivery.queue_s)
            timings.encode_s = max(timings.encode_s, delivery.encode_s)
            self._count_down()

    def fail(self, index: int, error: EmbedderError) -> None:
        """Answer one item with an error; its row stays zero."""
        with self._lock:
            if self._closed or self.sources[index]:
                return
            self.sources[index] = Source.FAILED
            self.failures[index] = error
            self._count_down()

    def _count_down(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self.done.set_result(None)

    def wait(self) -> None:
        """Block until every row is answered or the deadline passes; what is missing then fails as expired."""
        try:
            self.done.result(timeout=max(0.0, self.options.deadline - time.monotonic()))
        except TimeoutError:
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
            self._missing = 0
            self.done.set_result(None)
