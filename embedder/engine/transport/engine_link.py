"""A front-end's end of one engine: sends flights that are ready, and answers them with what comes back."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum, auto
from pathlib import Path

import structlog
import zmq

from embedder.encoders.base import Pixels, Tokens
from embedder.engine.contents import EmbedOptions, Source
from embedder.engine.single_flight import Flight, FlightTable, traceparents_of
from embedder.engine.ticket import Ticket
from embedder.engine.transport.answers import Answer, unpack_answers
from embedder.engine.transport.channel import Channel
from embedder.engine.transport.messages import Entry, Kind, pack_numbers, pack_submit, unpack_numbers
from embedder.engine.transport.pixel_pool import PixelWriter, SlotReference
from embedder.errors import ContentNotCached, DeadlineExpired, EmbedderError, StoreFailed, Unavailable
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)


class _Wants(Enum):
    """What an entry was sent for."""

    VECTOR = auto()  # the flight's vector
    COMMIT = auto()  # word that the flight's vector is stored
    HASTE = auto()  # nothing: it makes the flight more urgent where it is
    ROW = auto()  # one row of a call that is known by its hash alone


@dataclass(frozen=True, slots=True)
class _Sent:
    """An entry that has no answer yet."""

    wants: _Wants
    flight: Flight | None = None
    is_durable: bool = False
    ticket: Ticket | None = None
    row: int = 0


class EngineLink:
    """One engine as a front-end sees it. Thread-safe.

    Every flight that is handed over is answered exactly once, through the table: by the engine, or as unavailable when it goes.
    """

    def __init__(
        self, table: FlightTable, *, context: zmq.Context[zmq.Socket[bytes]], own_name: bytes, pixels: PixelWriter
    ) -> None:
        self._table = table
        self._context = context
        self._own_name = own_name
        self._pixels = pixels
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._ids = itertools.count(1)
        self._sent: dict[int, _Sent] = {}
        self._ids_of: dict[Flight, list[int]] = {}
        self._entries: deque[Entry] = deque()
        self._abandoned: deque[int] = deque()

    @property
    def is_up(self) -> bool:
        """Whether the engine takes work."""
        return self._channel is not None

    def connect(self, path: Path) -> None:
        """Begin to send to an engine that has started."""
        channel = Channel.connect(
            self._context, path, own_name=self._own_name, collect=self._collect, receive=self._receive
        )
        with self._lock:
            self._channel = channel

    def disconnect(self, why: str) -> None:
        """Answer everything that the engine had as unavailable, since it is gone."""
        with self._lock:
            channel, self._channel = self._channel, None
            sent, self._sent = self._sent, {}
            self._ids_of.clear()
            self._entries.clear()
            self._abandoned.clear()
        if channel is not None:
            channel.close()
        self._pixels.free_all()
        for entry in sent.values():
            self._fail(entry, Unavailable(why))

    def push(self, flights: Iterable[Flight]) -> None:
        """Send prepared flights."""
        for flight in flights:
            if self._table.drop_unwanted(flight, _expired):
                continue
            try:
                slot = self._write_pixels(flight)
            except EmbedderError as error:
                self._table.fail(flight, error)
                continue
            is_durable = any(waiter.ticket.options.durable for waiter in tuple(flight.waiters))
            entry = self._entry_of(flight, durable=is_durable, slot=slot)
            if not self._send(entry, _Sent(_Wants.VECTOR, flight, is_durable)):
                if slot is not None:
                    self._pixels.free([slot.slot])
                self._table.fail(flight, Unavailable("the engine is restarting"))
            flight.prepared = None

    def hasten(self, flight: Flight) -> None:
        """Tell the engine that a flight became more urgent, if it has it already."""
        with self._lock:
            is_there = flight in self._ids_of
        if is_there:
            self._send(self._entry_of(flight, durable=False, is_new=False), _Sent(_Wants.HASTE, flight))

    def abandon(self, flight: Flight) -> None:
        """Tell the engine that nobody waits for a flight any more."""
        with self._lock:
            ids = self._ids_of.pop(flight, [])
            for number in ids:
                self._sent.pop(number, None)
            self._abandoned.extend(ids)
            channel = self._channel
        if ids and channel is not None:
            channel.wake()

    def ask(self, content_hash: bytes, *, ticket: Ticket, row: int, asked_at: float) -> bool:
        """Ask for a content by its hash alone, for one row of a call; returns false when the engine is down."""
        entry = Entry(next(self._ids), content_hash, ticket.options, asked_at)
        return self._send(entry, _Sent(_Wants.ROW, ticket=ticket, row=row))

    def _write_pixels(self, flight: Flight) -> SlotReference | None:
        if flight.item.modality is not Modality.IMAGE:
            return None
        pixels: Tokens | Pixels | None = flight.prepared
        assert pixels is not None
        return self._pixels.write(pixels, deadline=flight.deadline)  # type: ignore[arg-type]  # by its medium

    def _entry_of(
        self, flight: Flight, *, durable: bool, slot: SlotReference | None = None, is_new: bool = True
    ) -> Entry:
        modality = flight.item.modality if is_new else None
        return Entry(
            id=next(self._ids),
            content_hash=flight.item.content_hash,
            options=_options_of(flight, durable=durable),
            asked_at=flight.asked_at,
            modality=modality,
            tokens=flight.prepared if modality is Modality.TEXT else None,  # type: ignore[arg-type]  # by its medium
            slot=slot,
            prepare_s=flight.prepare_s,
        )

    def _send(self, entry: Entry, sent: _Sent) -> bool:
        with self._lock:
            channel = self._channel
            if channel is None:
                return False
            self._sent[entry.id] = sent
            if sent.wants is _Wants.VECTOR and sent.flight is not None:
                self._ids_of[sent.flight] = [entry.id]
            elif sent.flight in self._ids_of:  # else it was answered meanwhile
                self._ids_of[sent.flight].append(entry.id)
            self._entries.append(entry)
        channel.wake()
        return True

    def _collect(self) -> Iterator[list[bytes]]:
        with self._lock:
            entries, self._entries = self._entries, deque()
            abandoned, self._abandoned = self._abandoned, deque()
        if entries:
            yield pack_submit(entries)
        if abandoned:
            yield pack_numbers(Kind.ABANDON, abandoned)

    def _receive(self, frames: list[bytes]) -> None:
        if frames[0] == Kind.FREE:
            self._pixels.free(unpack_numbers(frames))
        elif frames[0] == Kind.ANSWER:
            for answer in unpack_answers(frames):
                with self._lock:
                    sent = self._sent.pop(answer.id, None)
                if sent is not None:
                    self._take(sent, answer)

    def _take(self, sent: _Sent, answer: Answer) -> None:
        flight, delivery = sent.flight, answer.delivery
        if sent.wants is _Wants.HASTE:
            return
        if delivery is None:
            self._fail(sent, answer.error or EmbedderError("the engine gave no reason"))
        elif sent.ticket is not None:
            sent.ticket.deliver(sent.row, delivery, answer.source)
        elif flight is None:
            return
        elif sent.wants is _Wants.COMMIT or sent.is_durable or answer.source is Source.CACHE:
            if sent.wants is _Wants.VECTOR:
                self._deliver(flight, answer)
            self._table.commit(flight, None)
            self._forget(flight)
        else:
            self._deliver(flight, answer)
            if self._table.settle(flight):
                self._forget(flight)
            elif not self._send(self._entry_of(flight, durable=True, is_new=False), _Sent(_Wants.COMMIT, flight)):
                self._table.commit(flight, Unavailable("the engine is restarting"))

    def _deliver(self, flight: Flight, answer: Answer) -> None:
        assert answer.delivery is not None
        # Whoever opened the flight here computed it only if no other front-end had asked before.
        self._table.compute(flight, answer.delivery, source=None if answer.source is Source.COMPUTED else answer.source)

    def _fail(self, sent: _Sent, error: EmbedderError) -> None:
        if sent.ticket is not None:
            sent.ticket.fail(sent.row, error)
        elif sent.flight is not None and sent.wants is _Wants.VECTOR:
            self._forget(sent.flight)
            self._table.fail(sent.flight, error)
        elif sent.flight is not None and sent.wants is _Wants.COMMIT:
            self._forget(sent.flight)
            if isinstance(error, ContentNotCached):
                error = StoreFailed("the vector was computed and not stored")
            self._table.commit(sent.flight, error)

    def _forget(self, flight: Flight) -> None:
        with self._lock:
            self._ids_of.pop(flight, None)


def _options_of(flight: Flight, *, durable: bool) -> EmbedOptions:
    options = flight.owner.options
    traceparent = " ".join(sorted(traceparents_of(flight)))
    wanted = (flight.lane, flight.deadline, durable, traceparent)
    if (options.lane, options.deadline, options.durable, options.traceparent) == wanted:
        return options
    return replace(options, lane=flight.lane, deadline=flight.deadline, durable=durable, traceparent=traceparent)


def _expired() -> EmbedderError:
    return DeadlineExpired("the call's deadline passed before the content was sent to the engine")
