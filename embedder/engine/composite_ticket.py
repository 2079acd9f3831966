"""One call with posts or videos: its waiting, and the one answer it gets."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from embedder.engine.composite_answers import CompositeAnswers
from embedder.engine.composite_parts import CompositeParts
from embedder.engine.contents import (
    CallTimings,
    ContentItem,
    Counted,
    EmbedOptions,
    EmbedOutcome,
    ItemContents,
    Source,
)
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.video_encoder import VideoEncoder
from embedder.engine.wholes import Wholes
from embedder.errors import EmbedderError, StoreFailed


class CompositeTicket:
    """A call under way, as `Ticket` is: whoever waits holds a thread (`wait`) or holds none (`when_done`); then `outcome` tells it."""

    def __init__(
        self,
        items: Sequence[ContentItem],
        options: EmbedOptions,
        *,
        engine: LookupEngine,
        videos: VideoEncoder,
        wholes: Wholes,
    ) -> None:
        """Look wholes up, then start their parts; raises Overloaded before anything was queued."""
        self.options = options
        self._items = items
        self._engine = engine
        self._outcome: EmbedOutcome | None = None
        self._done = threading.Event()
        self._on_done: list[Callable[[], None]] = []
        self._lock = threading.Lock()
        self._parts = CompositeParts(items, options, engine=engine, videos=videos, wholes=wholes)
        self._answers = CompositeAnswers(self._parts, videos=videos, wholes=wholes)
        self._follow()

    @property
    def is_done(self) -> bool:
        """Whether everything is answered, and kept where the call asked for that."""
        return self._done.is_set()

    def when_done(self, callback: Callable[[], None]) -> None:
        """Run `callback` once everything is answered: now if that is so already, else in the thread that ends it."""
        with self._lock:
            if not self._done.is_set():
                self._on_done.append(callback)
                return
        callback()

    def wait(self) -> None:
        """Block until everything is answered or the deadline has passed; what is missing then fails as expired."""
        if not self._done.wait(max(0.0, self.options.deadline - time.monotonic())):
            self.abandon()

    def abandon(self) -> None:
        """Fail what is missing, since the caller no longer waits; a video under way is finished for whoever asks next."""
        self._parts.abandon()
        self._end()

    def outcome(self) -> EmbedOutcome:
        """Tell what everything came to, once the call is done."""
        outcome = self._concluded()
        lost = {}
        for row, item in enumerate(self._items):
            stored = self._answers.stored.get(item.content_hash)
            if stored is not None and row not in outcome.failures and (error := _store_error(stored)) is not None:
                lost[row] = error
        if not lost:
            return outcome
        sources, vectors = outcome.sources.copy(), outcome.vectors.copy()
        sources[list(lost)], vectors[list(lost)] = Source.FAILED, 0
        return replace(outcome, sources=sources, vectors=vectors, failures={**outcome.failures, **lost})

    def _concluded(self) -> EmbedOutcome:
        if self._outcome is None:
            self._outcome = self._conclude()
        return self._outcome

    def _follow(self) -> None:
        """Have `_parts_done` run when the last part is answered."""
        left = 1 + len(self._parts.flights)

        def count_down(_: object = None) -> None:
            nonlocal left
            with self._lock:
                left -= 1
                is_last = left == 0
            if is_last:
                self._parts_done()

        for flight in self._parts.flights.values():
            flight.future.add_done_callback(count_down)
        if self._parts.ticket is None:
            count_down()
        else:
            self._parts.ticket.when_done(count_down)

    def _parts_done(self) -> None:
        """End the call; a durable one once what it made of its parts is committed."""
        if self.options.durable:
            try:
                outcome = self._concluded()
            except Exception:  # noqa: BLE001 - this may be the device's thread: who reads the outcome is told
                self._end()
                return
            start = time.perf_counter()
            left = len(self._answers.stored)

            def count_down(_: object) -> None:
                nonlocal left
                with self._lock:
                    left -= 1
                    is_last = left == 0
                if is_last:
                    outcome.timings.store_s = time.perf_counter() - start
                    self._end()

            for stored in self._answers.stored.values():
                stored.add_done_callback(count_down)
            if self._answers.stored:
                return
        self._end()

    def _end(self) -> None:
        with self._lock:
            self._done.set()
            callbacks, self._on_done = self._on_done, []
        for callback in callbacks:
            callback()

    def _conclude(self) -> EmbedOutcome:
        """Fuse the posts, and hand them to the cache."""
        parts, videos = self._parts.outcome(), self._parts.encoded_videos()
        timings = CallTimings(lookup_s=self._parts.lookup_s)
        if parts is not None:
            timings = replace(parts.timings, lookup_s=timings.lookup_s + parts.timings.lookup_s)
        timings.prepare_s = max([timings.prepare_s, *[video.prepare_s for video in videos]])
        answers = self._answers.answer(self._items, parts)
        vectors = np.zeros((len(answers), self._engine.info.dim), np.float16)
        for row, answer in enumerate(answers):
            if answer.error is None:
                vectors[row] = answer.vector
        costs = ItemContents([cost for answer in answers if answer.error is None for cost in answer.costs])
        return EmbedOutcome(
            vectors=vectors,
            sources=np.array([Source.FAILED if answer.error else answer.source for answer in answers], np.uint8),
            failures={row: answer.error for row, answer in enumerate(answers) if answer.error is not None},
            timings=timings,
            device_seconds=sum(video.device_seconds for video in videos)
            + (parts.device_seconds if parts is not None else 0.0),
            unshared_seconds=self._engine.cost_model.call_seconds(costs.size),
            batch=parts.batch if parts is not None else None,
            segments={row: answer.segments for row, answer in enumerate(answers) if answer.segments is not None},
            counted=Counted(
                np.array([source for answer in answers for source in answer.counted], np.uint8),
                b"".join([answer.hashes for answer in answers]),
            ),
        )


def _store_error(stored: Future[None]) -> EmbedderError | None:
    """Return why a vector that was to be kept is not."""
    if not stored.done():
        return StoreFailed("the vector was computed, and not stored before the call ended")
    error = stored.exception()
    if error is None or isinstance(error, EmbedderError):
        return error
    return StoreFailed(f"the vector was computed and not stored: {error}")
