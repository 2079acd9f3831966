"""The engine: look up, join what is in flight, and compute the rest once."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import structlog

from embedder.encoders.base import Encoder, EncoderInfo
from embedder.engine.admission import Admission
from embedder.engine.contents import ContentItem, DeviceUsage, EmbedOptions, HalfVectors, Lane, Source
from embedder.engine.cost_model import CostModel
from embedder.engine.interactive_times import InteractiveTimes
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.observer import EngineObserver
from embedder.engine.preparer import Preparer
from embedder.engine.ready_queue import ReadyQueue
from embedder.engine.shared_fetch import SharedFetch
from embedder.engine.single_flight import Flight
from embedder.engine.ticket import Delivery, Ticket
from embedder.engine.worker import DeviceWorker, EncodedBatch, deliveries
from embedder.errors import ContentNotCached, DeadlineExpired, EmbedderError, StoreFailed, Unavailable
from embedder.media.limits import MediaLimits
from embedder.savings.meter import DeviceMeter, Meter
from embedder_cache import CacheBackpressure, CacheTier, SpaceKey
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

_CLOSE_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the engine schedules.

    Attributes:
        max_batch_tokens: token budget of one batch of texts.
        max_batch_images: budget of one batch of images.
        max_queue_s: estimated device seconds that may wait, by lane, before a call is refused.
        prepare_threads: threads that tokenize.
        decode_threads: threads that decode, or wait for a process that does.
        limits: how large one content may be.
    """

    max_batch_tokens: int = 1_536
    max_batch_images: int = 16
    max_queue_s: dict[Lane, float] = field(default_factory=lambda: {Lane.INTERACTIVE: 10.0, Lane.BULK: 120.0})
    prepare_threads: int = 2
    decode_threads: int = 2
    limits: MediaLimits = field(default_factory=MediaLimits)

    @property
    def max_batch_units(self) -> dict[Modality, float]:
        """The budget of one batch by medium."""
        return {Modality.TEXT: float(self.max_batch_tokens), Modality.IMAGE: float(self.max_batch_images)}

    def make_cost_model(self, info: EncoderInfo) -> CostModel:
        """Make a cost model that has learned nothing yet."""
        return CostModel(max_tokens=info.max_tokens, max_batch_units=self.max_batch_units)


class EncodeLedger(Protocol):
    """Where encodes are counted, as they happen on the device."""

    def record_encodes(self, options: EmbedOptions, *, encodes: int, usage: DeviceUsage) -> None:
        """Count contents that were computed for the task and client of `options`."""
        ...


class Engine(LookupEngine):
    """One space's engine inside this process: an encoder, its cache, and what is in flight between them. Thread-safe."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        cache: CacheTier,
        space: SpaceKey,
        ledger: EncodeLedger,
        settings: EngineSettings,
        shared: CacheTier | None = None,
        admission: Admission | None = None,
        meter: Meter | None = None,
        observer: EngineObserver | None = None,
    ) -> None:
        """Start the engine's threads.

        Args:
            cache: the local tier, which every call asks first.
            observer: is told of calls and batches; None tells nobody.
            shared: a tier that other machines share; asked for what is to be computed, before it is, and never waited for
                by a call that the local one answers.
            admission: refuses work that could not be answered in time; None makes one of `settings.max_queue_s`.
            meter: measures each batch; None takes wall time.
        """
        super().__init__(
            encoder.info,
            cache=cache,
            shared=shared,
            space=space,
            cost_model=settings.make_cost_model(encoder.info),
            observer=observer,
        )
        self._encoder = encoder
        self._ledger = ledger
        self._commits = 0
        self._admission = admission or Admission(max_queue_s=settings.max_queue_s)
        self._times = InteractiveTimes()
        self._queue = ReadyQueue(
            max_batch_units=settings.max_batch_units, batch_seconds=self.cost_model.batch_seconds, times=self._times
        )
        self._preparer = Preparer(
            encoder,
            limits=settings.limits,
            cost_model=self.cost_model,
            threads=settings.prepare_threads,
            decode_threads=settings.decode_threads,
            on_ready=self._queue.push,
            on_failed=self._table.fail,
        )
        self._fetch = (
            SharedFetch(shared, space, on_found=self._store_fetched, on_missing=self._preparer.submit)
            if shared
            else None
        )
        self._worker = DeviceWorker(
            encoder,
            queue=self._queue,
            table=self._table,
            cost_model=self.cost_model,
            meter=meter or DeviceMeter(),
            on_batch=self._complete,
        )
        self._worker.start()

    def queued_s(self, lane: Lane) -> float:
        """Estimated device seconds of admitted, unanswered work in a lane."""
        return self._admission.queued_s(lane)

    def is_full(self, options: EmbedOptions) -> bool:
        """Whether a call's lane has so much work queued that the least more would be refused."""
        return self._admission.is_full(options.lane, seconds_left=options.deadline - time.monotonic())

    def close(self) -> None:
        """Let queued work end, answer what can't, and stop the threads; the cache and the encoder stay open."""
        self._closed.set()
        if self._fetch:
            self._fetch.close()
        self._preparer.close()
        self._queue.close()
        self._worker.join(_CLOSE_TIMEOUT_S)
        self._table.close(Unavailable("the engine is shutting down"))

    def _mark(self) -> int:
        return self._commits

    def _hasten(self, flights: Sequence[Flight]) -> None:
        self._queue.push([flight for flight in flights if flight.is_queued])

    def _launch(self, ticket: Ticket, missing: Mapping[int, ContentItem], opened: list[Flight], *, mark: int) -> None:
        wanted = opened if mark == self._commits else self._resolve_committed(opened)
        if self._fetch:
            self._fetch.submit(wanted)
        else:
            self._preparer.submit(wanted)

    def _answer_unknown(self, ticket: Ticket, items: Mapping[int, ContentItem], indices: Sequence[int]) -> None:
        """Answer rows known by their hash alone: from a commit since this call's look-up, or as not held."""
        if not indices:
            return
        again = self._cache.get_many(self._space, b"".join([items[index].content_hash for index in indices]))
        for row, index in enumerate(indices):
            if again.found[row]:
                ticket.deliver(index, Delivery(vector=again.vectors[row]), Source.CACHE)
            else:
                ticket.fail(index, ContentNotCached("no vector is held for this content hash; send the content itself"))

    def _resolve_committed(self, opened: list[Flight]) -> list[Flight]:
        """Answer new flights that were committed between this call's look-up and its join; see `FlightTable`."""
        if not opened:
            return opened
        again = self._cache.get_many(self._space, b"".join([flight.item.content_hash for flight in opened]))
        for row in np.flatnonzero(again.found):
            self._table.resolve(opened[row], Delivery(vector=again.vectors[row]), Source.CACHE)
        return [flight for flight, found in zip(opened, again.found, strict=True) if not found]

    def _admit(self, items: Sequence[ContentItem], options: EmbedOptions) -> list[float]:
        """Admit contents that nobody computes yet; returns the device seconds that each counts."""
        if not items:
            return []
        seconds = self.cost_model.shares(items)
        seconds_left = options.deadline - time.monotonic()
        if seconds_left <= 0:
            raise DeadlineExpired("the call's deadline had passed when it arrived")
        self._admission.admit(
            options.lane, seconds, batch_s=self.cost_model.batch_overhead_s(), seconds_left=seconds_left
        )
        return seconds

    def _release(self, flight: Flight) -> None:
        admitted_s, flight.admitted_s = flight.admitted_s, 0.0
        if admitted_s:
            # By the lane of the call that opened it: that is where it was counted in.
            self._admission.release(flight.owner.options.lane, admitted_s)

    def _complete(self, batch: EncodedBatch) -> None:
        """Answer a batch's calls, then store its vectors; the calls do not wait for the commit unless they asked to."""
        by_owner: dict[int, list[int]] = defaultdict(list)
        for row, flight in enumerate(batch.flights):
            by_owner[id(flight.owner)].append(row)
        for rows in by_owner.values():
            options = batch.flights[rows[0]].owner.options
            self._ledger.record_encodes(options, encodes=len(rows), usage=batch.usage(rows))
        self._observer.encoded(batch)
        for flight, delivery in zip(batch.flights, deliveries(batch), strict=True):
            self._table.compute(flight, delivery)
            if flight.owner.options.lane is Lane.INTERACTIVE:
                self._times.took(time.time() - flight.asked_at)
        self._store(batch.flights, batch.vectors)
        if self._shared:
            with suppress(CacheBackpressure):  # best effort: another machine computes it for itself
                self._shared.put_many(
                    self._space, _hashes(batch.flights), batch.vectors, asked_at=_asked_at(batch.flights)
                )

    def _store_fetched(self, flights: Sequence[Flight], vectors: HalfVectors) -> None:
        """Answer calls with what the shared tier held, and keep it here too."""
        for flight, vector in zip(flights, vectors, strict=True):
            self._table.compute(flight, Delivery(vector=vector), source=Source.SHARED_CACHE)
        self._store(flights, vectors)

    def _store(self, flights: Sequence[Flight], vectors: HalfVectors) -> None:
        start = time.perf_counter()
        try:
            committed = self._cache.put_many(self._space, _hashes(flights), vectors, asked_at=_asked_at(flights))
        except CacheBackpressure as error:
            self._observer.stored(items=len(flights), store_s=0.0, failed=True)
            self._commit(flights, StoreFailed(f"the vector was computed and not stored: {error}"))
            return
        committed.add_done_callback(lambda future: self._committed(flights, future, start))

    def _committed(self, flights: Sequence[Flight], future: Future[None], start: float) -> None:
        error = future.exception()
        store_s = time.perf_counter() - start
        self._observer.stored(items=len(flights), store_s=store_s, failed=error is not None)
        if error is not None:
            _log.error("vectors were served and not stored", items=len(flights), error=repr(error))
        # Before the flights leave the table: who finds none there looks into the cache once more.
        self._commits += 1
        self._commit(flights, StoreFailed(f"the vector was computed and not stored: {error}") if error else None)

    def _commit(self, flights: Sequence[Flight], error: EmbedderError | None) -> None:
        for flight in flights:
            self._table.commit(flight, error)


def _hashes(flights: Sequence[Flight]) -> bytes:
    return b"".join([flight.item.content_hash for flight in flights])


def _asked_at(flights: Sequence[Flight]) -> npt.NDArray[np.float64]:
    return np.array([flight.asked_at for flight in flights])
