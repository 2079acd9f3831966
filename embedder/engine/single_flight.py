"""Single-flight: a content that is being computed is joined, never computed a second time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from embedder.encoders.base import Pixels, Tokens
from embedder.engine.contents import ContentItem, Lane, Source
from embedder.engine.ticket import Delivery, Ticket
from embedder.errors import EmbedderError


@dataclass(slots=True, eq=False)
class Waiter:
    """One row of one call that waits for a flight."""

    ticket: Ticket
    index: int
    source: Source

    @property
    def is_waiting(self) -> bool:
        """Whether somebody still waits."""
        return self.ticket.waits_for(self.index)


@dataclass(slots=True, eq=False)
class Flight:
    """One content on its way through preparation, queue, device and store.

    Attributes:
        item: the content.
        owner: the call that it is computed for; later calls join.
        waiters: every row that waits for it.
        lane: the most urgent lane of any call that waits.
        deadline: the latest deadline of any call that waits.
        prepared: token ids or pixels, once tokenized or decoded.
        units: its cost in tokens or images, once prepared.
        delivery: its vector, once computed; it stays here until the cache's commit makes it visible.
        is_queued: whether it waits in the ready queue.
        admitted_s: device seconds that admission counts for it.
        asked_at: seconds since 1970 of the look-up that missed it; what was erased since is not stored.
    """

    item: ContentItem
    owner: Ticket
    lane: Lane
    deadline: float
    waiters: list[Waiter] = field(default_factory=list)
    prepared: Tokens | Pixels | None = None
    units: float = 0.0
    prepare_s: float = 0.0
    ready_at: float = 0.0
    delivery: Delivery | None = None
    is_queued: bool = False
    admitted_s: float = 0.0
    asked_at: float = field(default_factory=time.time)


def traceparents_of(flight: Flight) -> set[str]:
    """Return where the traces of the calls go on that wait for a flight; a front-end's entry may stand for several."""
    return {
        traceparent for waiter in tuple(flight.waiters) for traceparent in waiter.ticket.options.traceparent.split()
    }


@dataclass(frozen=True, slots=True)
class Joined:
    """What became of a call's missing rows.

    Attributes:
        opened: flights that this call opened.
        hastened: flights of other calls that it made more urgent.
        unknown: rows known by their hash alone that are not in flight.
    """

    opened: list[Flight]
    hastened: list[Flight]
    unknown: list[int]


class FlightTable:
    """The contents in flight of one space, by content hash.

    A flight stays in the table until its vector is visible in the cache, so a call that misses the cache and then finds no flight
    can trust a second look into the cache: either the vector is there, or nobody has computed it.
    """

    def __init__(self, *, on_answered: Callable[[Flight], None]) -> None:
        """Make an empty table; `on_answered` is called once for each flight, when it no longer waits for the device."""
        self._flights: dict[bytes, Flight] = {}
        self._lock = threading.Lock()
        self._on_answered = on_answered

    def __len__(self) -> int:
        return len(self._flights)

    def join(
        self,
        ticket: Ticket,
        items: Mapping[int, ContentItem],
        indices: Sequence[int],
        *,
        admit: Callable[[Sequence[ContentItem]], Sequence[float]],
    ) -> Joined:
        """Let a call's missing rows join what is in flight, and open flights for the rest.

        Args:
            ticket: the call.
            items: its missing contents, by row.
            indices: the rows that are missing.
            admit: admits the contents that nobody computes yet, and returns what each counts; if it raises, nothing has changed.
        """
        joined = Joined([], [], [])
        ready: list[tuple[Waiter, Delivery]] = []
        with self._lock:
            fresh = {items[index].content_hash: items[index] for index in indices if self._is_fresh(items[index])}
            shares = dict(zip(fresh, admit(list(fresh.values())), strict=True))
            for index in indices:
                item = items[index]
                flight = self._flights.get(item.content_hash)
                if flight is None and item.payload is None:
                    joined.unknown.append(index)
                elif flight is None:
                    joined.opened.append(self._open(ticket, item, index, shares[item.content_hash]))
                elif flight.delivery is not None and not ticket.options.durable:
                    ready.append((Waiter(ticket, index, Source.IN_FLIGHT), flight.delivery))
                else:
                    flight.waiters.append(Waiter(ticket, index, Source.IN_FLIGHT))
                    if _hasten(flight, ticket):
                        joined.hastened.append(flight)
        for waiter, delivery in ready:
            waiter.ticket.deliver(waiter.index, delivery, waiter.source)
        return joined

    def _is_fresh(self, item: ContentItem) -> bool:
        return item.payload is not None and item.content_hash not in self._flights

    def _open(self, ticket: Ticket, item: ContentItem, index: int, admitted_s: float) -> Flight:
        options = ticket.options
        flight = Flight(item=item, owner=ticket, lane=options.lane, deadline=options.deadline, admitted_s=admitted_s)
        flight.waiters.append(Waiter(ticket, index, Source.COMPUTED))
        self._flights[item.content_hash] = flight
        return flight

    def resolve(self, flight: Flight, delivery: Delivery, source: Source) -> None:
        """Answer every waiter of a flight from elsewhere (the cache had it after all), and close the flight."""
        self._on_answered(flight)
        for waiter in self._close(flight):
            waiter.ticket.deliver(waiter.index, delivery, source)

    def compute(self, flight: Flight, delivery: Delivery, *, source: Source | None = None) -> None:
        """Answer the waiters that need no commit; the flight stays until `commit`.

        Args:
            source: where the vector came from, when it was not computed.
        """
        self._on_answered(flight)
        with self._lock:
            flight.delivery = delivery
            if source is not None:
                for waiter in flight.waiters:
                    waiter.source = source
            now = [waiter for waiter in flight.waiters if not waiter.ticket.options.durable]
            flight.waiters = [waiter for waiter in flight.waiters if waiter.ticket.options.durable]
        for waiter in now:
            waiter.ticket.deliver(waiter.index, delivery, waiter.source)

    def commit(self, flight: Flight, error: EmbedderError | None) -> None:
        """Close a computed flight: its vector is visible in the cache, or was not stored for `error`."""
        delivery = flight.delivery
        for waiter in self._close(flight):
            if error is not None or delivery is None:
                waiter.ticket.fail(waiter.index, error or EmbedderError("the vector was not computed"))
            else:
                waiter.ticket.deliver(waiter.index, delivery, waiter.source)

    def settle(self, flight: Flight) -> bool:
        """Close a computed flight that nobody waits for; a waiter that asked for the commit keeps it open, and false is returned."""
        with self._lock:
            if flight.waiters:
                return False
            if self._flights.get(flight.item.content_hash) is flight:
                del self._flights[flight.item.content_hash]
        return True

    def find(self, content_hash: bytes) -> Flight | None:
        """Return the flight of a content, if there is one."""
        return self._flights.get(content_hash)

    def fail(self, flight: Flight, error: EmbedderError) -> None:
        """Answer every waiter of a flight with an error, and close the flight."""
        self._on_answered(flight)
        for waiter in self._close(flight):
            waiter.ticket.fail(waiter.index, error)

    def is_wanted(self, flight: Flight, *, needed_s: float = 0.0) -> bool:
        """Say whether anybody still waits when a flight's vector is there, in `needed_s` seconds."""
        there_at = time.monotonic() + needed_s
        return any(waiter.is_waiting and waiter.ticket.options.deadline > there_at for waiter in flight.waiters)

    def drop_unwanted(self, flight: Flight, error: Callable[[], EmbedderError], *, needed_s: float = 0.0) -> bool:
        """Close a flight that nobody waits for until it can be there, in `needed_s`; returns whether it was closed."""
        with self._lock:
            if self.is_wanted(flight, needed_s=needed_s):
                return False
            self._flights.pop(flight.item.content_hash, None)
            waiters, flight.waiters = flight.waiters, []
        self._on_answered(flight)
        for waiter in waiters:
            waiter.ticket.fail(waiter.index, error())
        return True

    def close(self, error: EmbedderError) -> None:
        """Answer everything that is still in flight with an error."""
        with self._lock:
            flights = list(self._flights.values())
        for flight in flights:
            self.fail(flight, error)

    def _close(self, flight: Flight) -> list[Waiter]:
        with self._lock:
            if self._flights.get(flight.item.content_hash) is flight:
                del self._flights[flight.item.content_hash]
            waiters, flight.waiters = flight.waiters, []
        return waiters


def _hasten(flight: Flight, ticket: Ticket) -> bool:
    """Make a flight as urgent as a call that joined it; returns whether it became more urgent."""
    options = ticket.options
    if options.lane >= flight.lane and options.deadline <= flight.deadline:
        return False
    flight.lane = min(flight.lane, options.lane)
    flight.deadline = max(flight.deadline, options.deadline)
    return True
