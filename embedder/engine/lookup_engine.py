"""What every engine does for a call: look up, join what is in flight, and answer; how the rest is computed is the subclass's."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from embedder.encoders.base import EncoderInfo
from embedder.engine.contents import (
    CallSize,
    CallTimings,
    ContentItem,
    Contents,
    EmbedOptions,
    EmbedOutcome,
    HalfVectors,
    ItemContents,
    Lane,
    Source,
)
from embedder.engine.cost_model import CostModel
from embedder.engine.observer import EngineObserver
from embedder.engine.single_flight import Flight, FlightTable
from embedder.engine.ticket import Ticket
from embedder.errors import Unavailable
from embedder_cache import CacheBackpressure, CacheTier, Lookup, SpaceKey
from embedder_client.content_hash import HASH_BYTES

TicketMaker = Callable[[HalfVectors, npt.NDArray[np.bool_], EmbedOptions], Ticket]


@dataclass(frozen=True, slots=True)
class Asked:
    """A call whose contents were looked up.

    Attributes:
        contents: what it asks for.
        ticket: with the rows that the cache held.
        found: (n,) which rows those are.
        mark: what the engine's `_mark` said before the look-up.
        asked_at: when the cache was asked, seconds since 1970; what was erased since is not stored.
    """

    contents: Contents
    ticket: Ticket
    found: npt.NDArray[np.bool_]
    mark: int
    asked_at: float


class LookupEngine(ABC):
    """The half of an engine that calls meet. Thread-safe.

    The hit path takes no lock and starts no thread: a call whose vectors are all held never waits for one that computes.
    """

    def __init__(
        self,
        info: EncoderInfo,
        *,
        cache: CacheTier,
        shared: CacheTier | None,
        space: SpaceKey,
        cost_model: CostModel,
        observer: EngineObserver | None = None,
    ) -> None:
        self.info = info
        self.cost_model = cost_model
        self._cache = cache
        self._shared = shared
        self._space = space
        self._observer = observer or EngineObserver()
        self._closed = threading.Event()
        self._table = FlightTable(on_answered=self._release)

    @abstractmethod
    def queued_s(self, lane: Lane) -> float:
        """Estimated device seconds of admitted, unanswered work in a lane."""

    @abstractmethod
    def close(self) -> None:
        """Let queued work end, answer what can't, and stop the threads; the cache stays open."""

    @abstractmethod
    def is_full(self, options: EmbedOptions) -> bool:
        """Whether a call's lane has so much work queued that the least more would be refused."""

    @abstractmethod
    def _mark(self) -> int:
        """Return a number that changes when contents become visible in the cache; taken before a look-up."""

    @abstractmethod
    def _admit(self, items: Sequence[ContentItem], options: EmbedOptions) -> list[float]:
        """Admit contents that nobody computes yet; returns the device seconds that each counts."""

    @abstractmethod
    def _release(self, flight: Flight) -> None:
        """Count a flight out that no longer waits for the device."""

    @abstractmethod
    def _answer_unknown(self, ticket: Ticket, items: Mapping[int, ContentItem], indices: Sequence[int]) -> None:
        """Answer rows known by their hash alone that are not in flight here."""

    @abstractmethod
    def _launch(self, ticket: Ticket, missing: Mapping[int, ContentItem], opened: list[Flight], *, mark: int) -> None:
        """Compute what a call opened; `missing` are all contents that it waits for, by row."""

    @abstractmethod
    def _hasten(self, flights: Sequence[Flight]) -> None:
        """Queue flights again that became more urgent."""

    @property
    def space(self) -> SpaceKey:
        """The key range of this engine's vectors."""
        return self._space

    @property
    def in_flight(self) -> int:
        """Number of contents that are being computed or committed."""
        return len(self._table)

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

    def start(
        self,
        items: Sequence[ContentItem] | Contents,
        options: EmbedOptions,
        *,
        make_ticket: TicketMaker = Ticket,
        asked_at: float | None = None,
    ) -> Ticket:
        """Look a call's contents up, and start computing what is missing; the ticket says when all is answered.

        Args:
            make_ticket: makes the ticket that is returned.
            asked_at: when the caller looked into the cache itself, seconds since 1970; what was erased since is not stored.

        Raises:
            Overloaded: what is missing could not be computed in time; nothing was queued.
            Unavailable: the engine is closed.
        """
        asked = self.ask(items, options, make_ticket=make_ticket)
        return self.proceed(asked if asked_at is None else replace(asked, asked_at=asked_at))

    def ask(
        self, items: Sequence[ContentItem] | Contents, options: EmbedOptions, *, make_ticket: TicketMaker = Ticket
    ) -> Asked:
        """Look a call's contents up and begin nothing else; its ticket is done if all are held, else `proceed` goes on.

        Raises:
            Unavailable: the engine is closed.
        """
        if self._closed.is_set():
            raise Unavailable("the engine is shutting down")
        contents = contents_of(items)
        mark = self._mark()
        start = time.perf_counter()
        found = self._cache.get_many(self._space, contents.hashes)
        ticket = make_ticket(found.vectors, found.found, options)
        ticket.timings.lookup_s = time.perf_counter() - start
        if options.traceparent:
            held = int(np.count_nonzero(found.found))
            self._observer.looked_up(options, contents=len(contents), held=held, lookup_s=ticket.timings.lookup_s)
        return Asked(contents, ticket, found.found, mark, found.asked_at)

    def proceed(self, asked: Asked) -> Ticket:
        """Start computing what a look-up did not find; see `start`."""
        if not asked.ticket.is_done:
            self._compute(asked)
        return asked.ticket

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

    def _compute(self, asked: Asked) -> None:
        ticket = asked.ticket
        missing: dict[int, ContentItem] = {}
        for index in np.flatnonzero(~asked.found).tolist():
            item = asked.contents[index]
            if item.error is None:
                missing[index] = item
            else:
                ticket.fail(index, item.error)
        joined = self._table.join(
            ticket, missing, list(missing), admit=lambda fresh: self._admit(fresh, ticket.options)
        )
        self._answer_unknown(ticket, missing, joined.unknown)
        for flight in joined.opened:
            flight.asked_at = asked.asked_at
        self._hasten(joined.hastened)
        self._launch(ticket, missing, joined.opened, mark=asked.mark)


def contents_of(items: Sequence[ContentItem] | Contents) -> Contents:
    """Return a call's contents, given as they are or as items."""
    return ItemContents(items) if isinstance(items, list | tuple) else items  # type: ignore[return-value]  # a protocol
