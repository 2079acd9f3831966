"""The native front: HTTP/2 outside the interpreter, and one thread that answers hits as they come.

Embed and Lookup are answered here; every other method is handed on to the grpcio server behind it. A hit costs one pass of this
thread and wakes no other. What is not held is started by a second thread, so that no hit stands behind a burst of misses, and holds
no thread while it waits.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import structlog

from embedder.engine.composite_engine import AnyTicket
from embedder.errors import MessageTooLarge, Unauthenticated, Unavailable
from embedder.server.call import TRACEPARENT, Call
from embedder.server.embedding_calls import EmbedCall, look_up
from embedder.server.error_table import ErrorStatus, row_of
from embedder.server.guard import KNOWN_ERRORS, WITHOUT_TOKEN, log_refusal
from embedder.server.runtime import RuntimeGate
from embedder.server.traced import CallSpan
from embedder.telemetry.observer import ServiceObserver
from embedder_client.v1 import embedding_service_pb2 as pb

if TYPE_CHECKING:
    from pygrpc_native import NativeGrpcFront

_log = structlog.get_logger(__name__)

_EMBED = "/embedder.v1.EmbeddingService/Embed"
_LOOKUP = "/embedder.v1.EmbeddingService/Lookup"
_EVENTS_AT_ONCE = 64
_MAX_STREAMS = 4_096
_SWEEP_INTERVAL_S = 1.0
_RESERVED = "grpc-retry-"

Metadata = Mapping[str, str | bytes]


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """How the native front listens.

    Attributes:
        address: host and port; port 0 takes a free one.
        fallback: path of the Unix socket where the grpcio server answers everything else.
        bearer_token: what every call must bring; None asks for nothing.
        max_message_bytes: of a request.
        default_deadline_s: of a call that brings none.
        may_look_up: whether look-ups are answered here: not where they may wait for another machine.
        reuse_port: whether other processes listen on the same port.
    """

    address: str
    fallback: str
    bearer_token: str | None
    max_message_bytes: int
    default_deadline_s: float
    may_look_up: bool = True
    reuse_port: bool = False


@dataclass(slots=True)
class _OpenCall:
    """A call that was not answered at once.

    Attributes:
        call_id: the front's own number of it.
        embed: what it asks for.
        started_s: `time.perf_counter()` seconds of its arrival.
        span: of its trace.
        ticket: what it waits for, once it was started.
        is_abandoned: whether nobody waits for it any more.
    """

    call_id: int
    embed: EmbedCall
    started_s: float
    span: CallSpan | None
    ticket: AnyTicket | None = None
    is_abandoned: bool = False

    def start(self) -> AnyTicket:
        """Start what it asks for; abandoned at once, if nobody waits for it any more."""
        ticket = self.ticket = self.embed.start()
        if (
            self.is_abandoned
        ):  # read after the ticket was set, as `abandon` sets them the other way round: one of the two sees it
            ticket.abandon()
        return ticket

    def abandon(self) -> None:
        """Stop waiting, from any thread."""
        self.is_abandoned = True
        if self.ticket is not None:
            self.ticket.abandon()


class NativeFront:
    """Answers the hot calls of one port."""

    def __init__(self, settings: FrontSettings, gate: RuntimeGate, observer: ServiceObserver) -> None:
        """Bind the port.

        Args:
            settings: how it listens.
            gate: what answers.
            observer: is told of each call.

        Raises:
            OSError: the address can't be bound.
        """
        from pygrpc_native import NativeGrpcFront

        self._settings = settings
        self._gate = gate
        self._observer = observer
        token = settings.bearer_token
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._open: dict[int, _OpenCall] = {}
        self._unheld: SimpleQueue[_OpenCall | None] = SimpleQueue()
        self._answered: SimpleQueue[int | None] = SimpleQueue()
        self._is_stopping = False
        self._methods = (_EMBED, _LOOKUP) if settings.may_look_up else (_EMBED,)
        self._front: NativeGrpcFront = NativeGrpcFront(
            settings.address,
            [(path, False) for path in self._methods],
            call_details=True,
            delay_stream_headers=True,
            keepalive_permit_without_calls=True,
            max_concurrent_streams=_MAX_STREAMS,
            reuse_port=settings.reuse_port,
        )
        self._front.set_fallback(settings.fallback)
        self._threads = [
            threading.Thread(target=self._take_calls, name="front", daemon=True),
            threading.Thread(target=self._start_unheld, name="front-misses", daemon=True),
            threading.Thread(target=self._answer_waiting, name="front-replies", daemon=True),
        ]

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._front.bound_port

    def start(self) -> None:
        """Take calls."""
        self._front.start()
        for thread in self._threads:
            thread.start()

    def refuse_new(self) -> None:
        """Answer new calls UNAVAILABLE from now on; those under way go on."""
        self._is_stopping = True

    def stop(self, grace_s: float) -> None:
        """Wait for the calls under way, end the rest, and close the port."""
        self.refuse_new()
        deadline = time.monotonic() + grace_s
        while self._open and time.monotonic() < deadline:
            time.sleep(0.01)
        for call in list(self._open.values()):
            call.abandon()
        front, misses, replies = self._threads
        self._unheld.put(None)
        misses.join()
        self._answered.put(None)
        replies.join()
        self._front.close()
        front.join()

    def _take_calls(self) -> None:
        from pygrpc_native import EVENT_CALL

        while (events := self._front.recv_batch_details(_EVENTS_AT_ONCE)) is not None:
            for kind, call_id, method_id, payload, _, details in events:
                if kind == EVENT_CALL and details is not None and payload is not None:
                    self._take(call_id, self._methods[method_id], payload, dict(details[0]), details[2])
                elif (call := self._open.get(call_id)) is not None:
                    call.abandon()  # the caller has gone, or its deadline has passed

    def _take(self, call_id: int, method: str, payload: bytes, metadata: Metadata, remaining: float | None) -> None:
        start = time.perf_counter()
        tracing = self._observer.tracing
        span = None if tracing is None else CallSpan(tracing, method, metadata)
        if span:
            TRACEPARENT.set(span.traceparent)  # this thread's next call sets its own
        try:
            self._check(payload, metadata)
            call = Call.of_metadata(metadata, remaining, default_deadline_s=self._settings.default_deadline_s)
            if method == _LOOKUP:
                self._look_up(call_id, call, pb.LookupRequest.FromString(payload), start, span)
            else:
                self._embed(call_id, call, pb.EmbedRequest.FromString(payload), start, span)
        except Exception as error:  # noqa: BLE001 - whatever happens, the caller is answered
            self._fail(call_id, method, error, start, span)

    def _respond(
        self,
        call_id: int,
        method: str,
        reply: pb.EmbedResponse | pb.LookupResponse,
        start: float,
        span: CallSpan | None,
    ) -> None:
        self._front.respond(call_id, reply.SerializeToString())
        self._observer.call_ended(method, "OK", time.perf_counter() - start)
        if span:
            span.answered(reply)

    def _check(self, payload: bytes, metadata: Metadata) -> None:
        if self._is_stopping:
            raise Unavailable("the service is shutting down")
        if self._expected is not None:
            given = metadata.get("authorization", "")
            if not hmac.compare_digest(given if isinstance(given, bytes) else given.encode(), self._expected):
                raise Unauthenticated(WITHOUT_TOKEN)
        limit = self._settings.max_message_bytes
        if len(payload) > limit:
            raise MessageTooLarge(f"the request has {len(payload)} bytes; the limit is {limit} (max_message_bytes)")

    def _look_up(
        self, call_id: int, call: Call, request: pb.LookupRequest, start: float, span: CallSpan | None
    ) -> None:
        if span:
            span.asked(request)
        self._respond(call_id, _LOOKUP, look_up(self._gate.get(), call, request), start, span)

    def _embed(self, call_id: int, call: Call, request: pb.EmbedRequest, start: float, span: CallSpan | None) -> None:
        if span:
            span.asked(request)
        embed = EmbedCall(self._gate.get(), call, request)
        if embed.start_if_held():
            self._respond(call_id, _EMBED, embed.reply(), start, span)
            return
        opened = self._open[call_id] = _OpenCall(call_id, embed, start, span)
        if embed.meets_full_queue:
            self._start(opened)  # at once: a refusal must not wait behind the work that it is refused for
        else:
            self._unheld.put(opened)

    def _start_unheld(self) -> None:
        """Start calls that the cache alone could not answer, in their order."""
        while (call := self._unheld.get()) is not None:
            if call.span:
                TRACEPARENT.set(call.span.traceparent)
            self._start(call)

    def _start(self, call: _OpenCall) -> None:
        try:
            call.start().when_done(partial(self._answered.put, call.call_id))
        except Exception as error:  # noqa: BLE001 - whatever happens, the caller is answered
            del self._open[call.call_id]
            self._fail(call.call_id, _EMBED, error, call.started_s, call.span)

    def _answer_waiting(self) -> None:
        """Answer calls whose last row has come; the device's own thread has better things to do."""
        while True:
            try:
                call_id = self._answered.get(timeout=_SWEEP_INTERVAL_S)
            except Empty:
                self._abandon_overdue()
                continue
            if call_id is None:
                return
            call = self._open.pop(call_id)
            try:
                self._respond(call_id, _EMBED, call.embed.reply(), call.started_s, call.span)
            except Exception as error:  # noqa: BLE001 - whatever happens, the caller is answered
                self._fail(call_id, _EMBED, error, call.started_s, call.span)

    def _abandon_overdue(self) -> None:
        """End calls whose deadline has passed and whose caller set none, so that none is left behind a device that hangs."""
        now = time.monotonic()
        for call in list(self._open.values()):
            if call.embed.deadline < now:
                call.abandon()

    def _fail(self, call_id: int, method: str, error: Exception, start: float, span: CallSpan | None) -> None:
        self._observer.call_ended(method, row_of(error).reason, time.perf_counter() - start)
        if span:
            span.failed(error)
        if isinstance(error, KNOWN_ERRORS):
            log_refusal(method, error, start)
        else:
            _log.exception("call failed", method=method)
        status = ErrorStatus(error)
        # Keys that start with grpc- are the library's own: the time to come back stands in the status's RetryInfo alone.
        trailers: list[Any] = [pair for pair in status.trailing_metadata if not pair[0].startswith(_RESERVED)]
        self._front.fail(call_id, status.code.value[0], status.details, trailing_metadata=trailers)
