"""An engine process's end: takes entries from every front-end, and sends each exactly one answer."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import structlog
import zmq

from embedder.engine.admission import Admission
from embedder.engine.contents import (
    ContentItem,
    EmbedOptions,
    HalfVectors,
    ItemContents,
    Lane,
    PreparedContent,
    Source,
)
from embedder.engine.engine import Engine
from embedder.engine.ticket import Delivery, Ticket
from embedder.engine.transport.answers import Answer, pack_answers
from embedder.engine.transport.channel import Channel
from embedder.engine.transport.messages import Entry, Kind, pack_numbers, unpack_numbers, unpack_submit
from embedder.engine.transport.peers import frontend_of
from embedder.engine.transport.pixel_pool import PixelReader
from embedder.errors import EmbedderError, EncoderError, Unavailable
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

_LINGER_MS = 2_000


class AdmittedByFrontends(Admission):
    """Admission of an engine whose front-ends have admitted already, on the board: counts, and refuses nothing."""

    def __init__(self) -> None:
        super().__init__(max_queue_s={})

    def admit(self, lane: Lane, item_seconds: Sequence[float], *, batch_s: float, seconds_left: float) -> None:
        """Count work in."""
        with self._lock:
            self._count(lane, item_seconds)


class EngineServer:
    """Serves one engine to the front-ends of this machine."""

    def __init__(
        self, engine: Engine, *, context: zmq.Context[zmq.Socket[bytes]], path: Path, pixels: Sequence[PixelReader]
    ) -> None:
        """Start to serve.

        Args:
            path: the Unix socket.
            pixels: where each front-end's images arrive, by its number.
        """
        self._engine = engine
        self._pixels = pixels
        self._peers: dict[bytes, _Peer] = {}
        self._gone: deque[bytes] = deque()
        self._dead: set[bytes] = set()
        self._channel = Channel.listen(context, path, collect=self._collect, receive=self._receive)

    def awaited_by(self, name: bytes) -> int:
        """Return how many entries of a front-end's process have no answer yet; none of one that was forgotten."""
        peer = self._peers.get(name)
        return 0 if peer is None else peer.awaited

    def forget_frontend(self, name: bytes) -> None:
        """Drop what a front-end's process asked for, since it is gone; work that others wait for too goes on."""
        self._gone.append(name)
        self._channel.wake()

    def close(self) -> None:
        """Send what was answered, and stop; the engine is closed before, so that everything was."""
        self._channel.close(linger_ms=_LINGER_MS)

    def _receive(self, frames: list[bytes]) -> None:
        if frames[0] in self._dead:  # what it had sent before it went
            return
        peer = self._peers.get(frames[0])
        if peer is None:
            peer = self._peers[frames[0]] = _Peer(wake=self._wake)
        if frames[1] == Kind.SUBMIT:
            for entries in unpack_submit(frames[1:]):
                self._start(peer, entries, self._pixels[frontend_of(frames[0])])
        elif frames[1] == Kind.ABANDON:
            peer.abandon(unpack_numbers(frames[1:]))

    def _wake(self) -> None:
        self._channel.wake()

    def _start(self, peer: _Peer, entries: Sequence[Entry], reader: PixelReader) -> None:
        options, asked_at = entries[0].options, entries[0].asked_at
        items = [_item(entry, reader) for entry in entries]
        if read := [entry.slot.slot for entry in entries if entry.slot is not None]:
            peer.freed.extend(read)
            self._wake()
        ids = [entry.id for entry in entries]
        try:
            ticket = self._engine.start(
                ItemContents(items), options, make_ticket=partial(RemoteTicket, peer=peer, ids=ids), asked_at=asked_at
            )
        except EmbedderError as error:
            for number in ids:
                peer.answer(Answer(number, Source.FAILED, error=error))
            return
        except Exception as error:  # noqa: BLE001 - a defect in one message must not leave its senders waiting
            _log.exception("entries failed", items=len(ids))
            for number in ids:
                peer.answer(Answer(number, Source.FAILED, error=EncoderError(f"internal error: {error!r}")))
            return
        for row in np.flatnonzero(ticket.sources == Source.CACHE).tolist():
            ticket.deliver(row, Delivery(vector=ticket.vectors[row]), Source.CACHE)

    def _collect(self) -> Iterator[list[bytes]]:
        while self._gone:
            name = self._gone.popleft()
            self._dead.add(name)
            if gone := self._peers.pop(name, None):
                gone.abandon_all()
        for name, peer in self._peers.items():
            if freed := peer.take_freed():
                yield [name, *pack_numbers(Kind.FREE, freed)]
            if answers := peer.take_answers():
                yield [name, *pack_answers(answers, dim=self._engine.info.dim)]


class _Peer:
    """One front-end's process as this engine sees it."""

    def __init__(self, *, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._answers: deque[Answer] = deque()
        self.freed: deque[int] = deque()
        self._tickets: dict[int, tuple[RemoteTicket, int]] = {}

    @property
    def awaited(self) -> int:
        """How many entries have no answer yet."""
        return len(self._tickets)

    def expect(self, ids: Sequence[int], ticket: RemoteTicket) -> None:
        """Note which rows of a ticket the front-end waits for."""
        for row, number in enumerate(ids):
            self._tickets[number] = (ticket, row)

    def answer(self, answer: Answer) -> None:
        """Send an answer soon."""
        self._tickets.pop(answer.id, None)
        self._answers.append(answer)
        self._wake()

    def abandon(self, ids: Sequence[int]) -> None:
        """Note that nobody waits for these any more; they need no answer."""
        for number in ids:
            if waiting := self._tickets.pop(number, None):
                ticket, row = waiting
                ticket.abandon_row(row)

    def abandon_all(self) -> None:
        """Note that nobody waits for anything any more."""
        self.abandon(list(self._tickets))

    def take_answers(self) -> list[Answer]:
        """Return what is to be sent."""
        return [self._answers.popleft() for _ in range(len(self._answers))]

    def take_freed(self) -> list[int]:
        """Return the slots that were read."""
        return [self.freed.popleft() for _ in range(len(self.freed))]


class RemoteTicket(Ticket):
    """A ticket whose rows are answered one by one over the channel."""

    def __init__(
        self,
        vectors: HalfVectors,
        found: npt.NDArray[np.bool_],
        options: EmbedOptions,
        *,
        peer: _Peer,
        ids: Sequence[int],
    ) -> None:
        super().__init__(vectors, found, options)
        self._peer = peer
        self._ids = ids
        self._is_open_row = [True] * len(ids)
        self._row_lock = threading.Lock()
        peer.expect(ids, self)

    def waits_for(self, index: int) -> bool:
        """Whether the front-end still waits for one row."""
        return self._is_open_row[index]

    def deliver(self, index: int, delivery: Delivery, source: Source) -> None:
        """Answer one row."""
        if self._close_row(index):
            self._peer.answer(Answer(self._ids[index], source, delivery=delivery))

    def fail(self, index: int, error: EmbedderError) -> None:
        """Answer one row with an error."""
        if self._close_row(index):
            self._peer.answer(Answer(self._ids[index], Source.FAILED, error=error))

    def abandon_row(self, index: int) -> None:
        """Answer nothing for one row."""
        self._close_row(index)

    def _close_row(self, index: int) -> bool:
        """Close one row; returns whether it was open, which it is once."""
        with self._row_lock:
            was_open, self._is_open_row[index] = self._is_open_row[index], False
        return was_open


def _item(entry: Entry, reader: PixelReader) -> ContentItem:
    if entry.modality is None:
        return ContentItem(entry.content_hash)
    if entry.modality is Modality.TEXT:
        assert entry.tokens is not None
        content = PreparedContent(entry.tokens, float(len(entry.tokens)), entry.prepare_s)
        return ContentItem(entry.content_hash, entry.modality, content)
    assert entry.slot is not None
    pixels = reader.read(entry.slot)
    if pixels is None:
        return ContentItem(entry.content_hash, error=Unavailable("the front-end that decoded the image is gone"))
    return ContentItem(entry.content_hash, entry.modality, PreparedContent(pixels, 1.0, entry.prepare_s))
