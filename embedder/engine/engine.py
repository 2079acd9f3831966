"""The engine: look up, join what is in flight, and compute the rest once."""

from __future__ import annotations

import threading
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

from embedder.encoders.base import Encoder
from embedder.engine.admission import Admission
from embedder.engine.contents import (
    CallSize,
    CallTimings,
    ContentItem,
    Contents,
    DeviceUsage,
    EmbedOptions,
    EmbedOutcome,
    HalfVectors,
    ItemContents,
    Lane,
    Source,
)
from embedder.engine.cost_model import CostModel
from embedder.engine.observer import EngineObserver
from embedder.engine.preparer import Preparer
from embedder.engine.ready_queue import ReadyQueue
from embedder.engine.shared_fetch import SharedFetch
from embedder.engine.single_flight import Flight, FlightTable
from embedder.engine.ticket import Delivery, Ticket
from embedder.engine.worker import DeviceWorker, EncodedBatch, deliveries
from embedder.errors import ContentNotCached, DeadlineExpired, EmbedderError, StoreFailed, Unavailable
from embedder.media.limits import MediaLimits
from embedder.savings.meter import DeviceMeter, Meter
from embedder_cache import CacheBackpressure, CacheTier, Lookup, SpaceKey
from embedder_client.content_hash import HASH_BYTES, Modality

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


class EncodeLedger(Protocol):
    """Where encodes are counted, as they happen on the device."""

    def record_encodes(self, options: EmbedOptions, *, encodes: int, usage: DeviceUsage) -> None:
        """Count contents that were computed for the task and client of `options`."""
        ...


class Engine:
    """One space's engine inside this process: an encoder, its cache, and what is in flight between them.

    Thread-safe. The hit path takes no lock and starts no thread: a call whose vectors are all held never waits for one that computes.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        cache: CacheTier,
        space: SpaceKey,
        ledger: EncodeLedger,
        settings: EngineSettings,
        shared: CacheTier | None = None,
        meter: Meter | None = None,
        observer: EngineObserver | None = None,
    ) -> None:
        """Start the engine's threads.

        Args:
            cache: the local tier, which every call asks first.
            observer: is told of calls and batches; None tells nobody.
            shared: a tier that other machines share; asked for what is to be computed, before it is, and never waited for
                by a call that the local one answers.
            meter: measures each batch; None takes wall time.
        """
        self.info = encoder.info
        max_batch_units = {
            Modality.TEXT: float(settings.max_batch_tokens),
            Modality.IMAGE: float(settings.max_batch_images),
        }
        self.cost_model = CostModel(max_tokens=encoder.info.max_tokens, max_batch_units=max_batch_units)
        self._encoder = encoder
        self._cache = cache
        self._space = space
        self._ledger = ledger
        self._observer = observer or EngineObserver()
        self._closed = threading.Event()
        self._commits = 0
        self._admission = Admission(max_queue_s=settings.max_queue_s)
        self._table = FlightTable(on_answered=self._release)
        self._queue = ReadyQueue(max_batch_units=max_batch_units, batch_seconds=self.cost_model.batch_seconds)
        self._preparer = Preparer(
            encoder,
            limits=settings.limits,
            cost_model=self.cost_model,
            threads=settings.prepare_threads,
            decode_threads=settings.decode_threads,
            on_ready=self._queue.push,
            on_failed=self._table.fail,
        )
        self._shared = shared
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

    @property
    def space(self) -> SpaceKey:
        """The key range of this engine's vectors."""
        return self._space

    @property
    def in_flight(self) -> int:
        """Number of contents that are being computed or committed."""
        return len(self._table)

    def queued_s(self, lane: Lane) -> float:
        """Estimated device seconds of admitted, unanswered work in a lane."""
        return self._admission.queued_s(lane)

    @property
    def has_shared_tier(self) -> bool:
        """Whether a look-up may wait for another machine."""
        return self._shared is not None

    def lookup(self, hashes: bytes, options: EmbedOptions) -> tuple[Lookup, EmbedOutcome]:
        """Read vectors by content hash from the local tier, then from the shared one, without computing any.

        Args:
            hashes: packed, 32 bytes each.
            options: whom it is for.
        Returns:
            every row with whether it was found, and the rows that were found as an outcome.
        """
        start = time.perf_counter()
        lookup = self._cache.get_many(self._space, hashes)
        sources = lookup.found.view(np.uint8) * np.uint8(Source.CACHE)
        if self._shared and not lookup.found.all():
            lookup = self._lookup_shared(self._shared, lookup, hashes)
            sources[lookup.found & (sources == 0)] = Source.SHARED_CACHE
        held = lookup.vectors if lookup.found.all() else lookup.vectors[lookup.found]
        outcome = EmbedOutcome(
            vectors=held,
            sources=sources[lookup.found],
            timings=CallTimings(lookup_s=time.perf_counter() - start),
            unshared_seconds=self.cost_model.call_seconds(CallSize(unknown=len(held))),
        )
        if options.traceparent:
            contents = len(lookup.found)
            self._observer.looked_up(options, contents=contents, held=len(held), lookup_s=outcome.timings.lookup_s)
        self._observer.answered(options, outcome)
        return lookup, outcome

    def _lookup_shared(self, shared: CacheTier, local: Lookup, hashes: bytes) -> Lookup:
        """Ask the shared tier for what the local one lacks, and keep it here too."""
        missing = np.flatnonzero(~local.found)
        wanted = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)[missing]  # (n, 32)
        answer = shared.get_many(self._space, wanted.tobytes())
        if not answer.found.any():
            return local
        vectors, found = local.vectors.copy(), local.found.copy()
        vectors[missing], found[missing] = answer.vectors, answer.found
        with suppress(CacheBackpressure):
            self._cache.put_many(
                self._space, wanted[answer.found].tobytes(), answer.vectors[answer.found], asked_at=local.asked_at
            )
        return Lookup(vectors, found, local.asked_at)

    def embed(self, items: Sequence[ContentItem] | Contents, options: EmbedOptions) -> EmbedOutcome:
        """Return the vectors of a call's contents: from the cache, from what is in flight, or computed now.

        Blocks until every item has its answer or the deadline has passed; an item's failure is its own.

        Raises:
            Overloaded: what is missing could not be computed in time; nothing was queued.
            Unavailable: the engine is closed.
        """
        ticket = self.start(items, options)
        ticket.wait()
        return self.outcome(ticket, items)

    def start(self, items: Sequence[ContentItem] | Contents, options: EmbedOptions) -> Ticket:
        """Look a call's contents up, and start computing what is missing; the ticket says when all is answered.

        Raises:
            Overloaded: what is missing could not be computed in time; nothing was queued.
            Unavailable: the engine is closed.
        """
        if self._closed.is_set():
            raise Unavailable("the engine is shutting down")
        contents = contents_of(items)
        commits = self._commits  # before the look-up, so that a commit in between is noticed
        start = time.perf_counter()
        found = self._cache.get_many(self._space, contents.hashes)
        ticket = Ticket(found.vectors, found.found, options)
        ticket.timings.lookup_s = time.perf_counter() - start
        if options.traceparent:
            held = int(np.count_nonzero(found.found))
            self._observer.looked_up(options, contents=len(contents), held=held, lookup_s=ticket.timings.lookup_s)
        if not ticket.is_done:
            self._compute(ticket, contents, found, commits)
        return ticket

    def outcome(self, ticket: Ticket, items: Sequence[ContentItem] | Contents) -> EmbedOutcome:
        """Read a ticket whose rows are all answered."""
        contents = contents_of(items)
        if ticket.failures:
            contents = ItemContents([contents[row] for row in range(len(contents)) if row not in ticket.failures])
        outcome = EmbedOutcome(
            vectors=ticket.vectors,
            sources=ticket.sources,
            failures=ticket.failures,
            timings=ticket.timings,
            device_seconds=ticket.device_seconds,
            unshared_seconds=self.cost_model.call_seconds(contents.size),
            batch=ticket.batch,
        )
        self._observer.answered(ticket.options, outcome)
        return outcome

    def close(self) -> None:
        """Let queued work end, answer what can't, and stop the threads; the cache and the encoder stay open."""
        self._closed.set()
        if self._fetch:
            self._fetch.close()
        self._preparer.close()
        self._queue.close()
        self._worker.join(_CLOSE_TIMEOUT_S)
        self._table.close(Unavailable("the engine is shutting down"))

    def _compute(self, ticket: Ticket, contents: Contents, found: Lookup, commits: int) -> None:
        missing: dict[int, ContentItem] = {}
        for index in np.flatnonzero(~found.found).tolist():
            item = contents[index]
            if item.error is None:
                missing[index] = item
            else:
                ticket.fail(index, item.error)
        joined = self._table.join(
            ticket, missing, list(missing), admit=lambda fresh: self._admit(fresh, ticket.options)
        )
        self._answer_unknown(ticket, missing, joined.unknown)
        for flight in joined.opened:
            flight.asked_at = found.asked_at
        opened = joined.opened if commits == self._commits else self._resolve_committed(joined.opened)
        self._queue.push([flight for flight in joined.hastened if flight.is_queued])
        if self._fetch:
            self._fetch.submit(opened)
        else:
            self._preparer.submit(opened)

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


def contents_of(items: Sequence[ContentItem] | Contents) -> Contents:
    """Return a call's contents, given as they are or as items."""
    return ItemContents(items) if isinstance(items, list | tuple) else items  # type: ignore[return-value]  # a protocol


def _hashes(flights: Sequence[Flight]) -> bytes:
    return b"".join([flight.item.content_hash for flight in flights])


def _asked_at(flights: Sequence[Flight]) -> npt.NDArray[np.float64]:
    return np.array([flight.asked_at for flight in flights])
