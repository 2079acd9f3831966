"""One Embed or Lookup call: from the request to the reply, holding no thread in between."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import grpc
import numpy as np

from embedder.engine.composite_engine import AnyTicket
from embedder.engine.contents import ContentItem, EmbedOptions, EmbedOutcome, HalfVectors, ItemContents, Lane
from embedder.engine.lookup_engine import Asked
from embedder.errors import EmbedderError, InvalidRequest, Overloaded
from embedder.server.call import Call
from embedder.server.composites import composite_options, segment_messages
from embedder.server.contents import WireContents, check_hashes, items_of
from embedder.server.replies import (
    check_options,
    cost_message,
    error_messages,
    provenance_message,
    sources_of,
    vectors_message,
)
from embedder.server.runtime import Runtime
from embedder.server.spaces import ServedSpace, SpaceResolver
from embedder.server.ticket_group import TicketGroup
from embedder_client.content_hash import HASH_BYTES
from embedder_client.v1 import embedding_service_pb2 as pb


class EmbedCall:
    """One Embed request on its way: `start`, then `reply` once its ticket is done."""

    def __init__(
        self,
        runtime: Runtime,
        call: Call,
        request: pb.EmbedRequest,
        *,
        upload: ContentItem | None = None,
        pinned: SpaceResolver | None = None,
    ) -> None:
        """Read and check the request.

        Args:
            upload: a content that was uploaded, in place of the request's.
            pinned: finds the spaces of the stream that the request is of; None takes them as they are now.
        Raises:
            EmbedderError: the call as a whole can't be served.
        """
        self._runtime = runtime
        self._call = call
        self._request = request
        self._spaces = spaces_asked(pinned or runtime.spaces, request)
        self._options: EmbedOptions = call.options(lane=request.lane, task=request.task, durable=request.durable)
        if request.HasField("post") or request.HasField("segments"):
            segments = request.segments if request.HasField("segments") else None
            self._options = replace(self._options, composite=composite_options(request.post, segments))
        self._items: WireContents | ItemContents = (
            ItemContents([upload])
            if upload is not None
            else items_of(request.contents, max_items=runtime.settings.max_items_per_call)
        )
        self._asked: list[Asked | None] = [None] * len(self._spaces)
        self._tickets: list[AnyTicket] = []

    @property
    def ticket(self) -> AnyTicket | TicketGroup:
        """What the call waits for, once it was started."""
        assert self._tickets
        return self._tickets[0] if len(self._tickets) == 1 else TicketGroup(self._tickets)

    @property
    def deadline(self) -> float:
        """`time.monotonic()` seconds after which nobody waits."""
        return self._options.deadline

    def start_if_held(self) -> bool:
        """Answer from the cache alone; False, and nothing was begun, where that does not hold all contents in every space."""
        self._asked = [space.engine.ask(self._items, self._options) for space in self._spaces]
        held = [asked.ticket for asked in self._asked if asked is not None and asked.ticket.is_done]
        if len(held) < len(self._spaces):
            return False
        self._tickets = [*held]
        return True

    @property
    def meets_full_queue(self) -> bool:
        """Whether it would be refused by now, unless others compute its contents already."""
        return any(space.engine.is_full(self._options) for space in self._spaces)

    def start(self) -> AnyTicket | TicketGroup:
        """Look the contents up, unless that was done, and start computing what is missing, in every space that was asked for."""
        started: list[AnyTicket] = []
        try:
            for space, asked in zip(self._spaces, self._asked, strict=True):
                engine = space.engine
                started.append(engine.proceed(asked) if asked else engine.start(self._items, self._options))
        except EmbedderError:
            for ticket in started:
                ticket.abandon()
            raise
        self._tickets = started
        return self.ticket

    def start_patiently(self, context: grpc.ServicerContext) -> None:
        """Start; in the bulk lane, wait until the queue has room, and count the deadline from then on."""
        patience_s = self._options.deadline - self._call.started_at
        while True:
            try:
                self.start()
                return
            except Overloaded as error:
                if self._options.lane is Lane.INTERACTIVE or not context.is_active():
                    raise
                time.sleep(error.retry_after_ms / 1_000)
                self._options = replace(self._options, deadline=time.monotonic() + patience_s)

    def abandon_with(self, context: grpc.ServicerContext) -> None:
        """Stop waiting when the caller goes away."""
        if not self.ticket.is_done:
            context.add_callback(self.ticket.abandon)

    def wait(self) -> None:
        """Hold this thread until every row is answered, or the deadline has passed."""
        self.ticket.wait()

    def reply(self) -> pb.EmbedResponse:
        """Count the call and answer it; every row has its answer by now."""
        outcome, *others = [self._outcome(space, ticket) for space, ticket in self._answered()]
        space = self._spaces[0]
        self._runtime.directory.shadow(space, self._items)
        return pb.EmbedResponse(
            vectors=vectors_message(outcome.vectors, self._request.options),
            sources=sources_of(outcome),
            errors=error_messages(outcome.failures) if outcome.failures else None,
            provenance=provenance_message(space),
            cost=cost_message(self._runtime, self._call, space, outcome),
            segments=segment_messages(outcome, self._request.options) if outcome.segments else None,
            additional=[
                pb.SpaceVectors(
                    vectors=vectors_message(other.vectors, self._request.options),
                    sources=sources_of(other),
                    errors=error_messages(other.failures),
                    provenance=provenance_message(space),
                    cost=cost_message(self._runtime, self._call, space, other),
                )
                for space, other in zip(self._spaces[1:], others, strict=True)
            ],
        )

    def _answered(self) -> Iterator[tuple[ServedSpace, AnyTicket]]:
        return zip(self._spaces, self._tickets, strict=True)

    def _outcome(self, space: ServedSpace, ticket: AnyTicket) -> EmbedOutcome:
        """Read what a space answered, and count it there."""
        outcome = space.engine.outcome(ticket, self._items)
        self._runtime.account(space).record_answers(self._options, outcome, self._items.named_hashes)
        return outcome


def spaces_asked(spaces: SpaceResolver, request: pb.EmbedRequest | pb.LookupRequest) -> list[ServedSpace]:
    """Return the spaces that a call is answered in, all as they are at one moment.

    Raises:
        UnknownSpace, InvalidRequest: there is no such space, it was named twice, or it can't give such vectors.
    """
    asked = [spaces.resolve(request.options.space)]
    for name in request.additional_spaces:
        space = spaces.resolve(name)
        if space in asked:
            raise InvalidRequest(f"additional_spaces: {name!r} is {space.name}, which the call asks already")
        asked.append(space)
    for space in asked:
        check_options(request.options, space)
    return asked


def look_up(runtime: Runtime, call: Call, request: pb.LookupRequest) -> pb.LookupResponse:
    """Read vectors by content hash, and count what was found.

    Raises:
        EmbedderError: the call as a whole can't be served.
    """
    spaces = spaces_asked(runtime.spaces, request)
    check_hashes(request.content_hashes, max_items=runtime.settings.max_items_per_call)
    options = replace(call.options(lane=0, task=request.task), composite=composite_options(request.post))
    first, *others = [_look_up(runtime, space, request, options) for space in spaces]
    return pb.LookupResponse(
        vectors=vectors_message(first.vectors, request.options),
        wanted=first.wanted,
        provenance=provenance_message(spaces[0]),
        cost=cost_message(runtime, call, spaces[0], first.outcome),
        additional=[
            pb.SpaceVectors(
                vectors=vectors_message(other.vectors, request.options),
                wanted=other.wanted,
                provenance=provenance_message(space),
                cost=cost_message(runtime, call, space, other.outcome),
            )
            for space, other in zip(spaces[1:], others, strict=True)
        ],
    )


@dataclass(frozen=True, slots=True)
class _Held:
    """What one space holds of a look-up: (n, dim) float16, the rows that it lacks, and what that cost."""

    vectors: HalfVectors
    wanted: list[int]
    outcome: EmbedOutcome


def _look_up(runtime: Runtime, space: ServedSpace, request: pb.LookupRequest, options: EmbedOptions) -> _Held:
    found, held = space.engine.lookup(request.content_hashes, options)
    wanted: list[int] = []
    hashes = request.content_hashes
    if len(held.sources) < len(found.found):
        # What is wanted was not answered: the caller asks again with the content, and is counted then.
        wanted = np.flatnonzero(~found.found).tolist()
        hashes = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)[found.found].tobytes()
    if hashes:
        runtime.account(space).record_answers(options, held, hashes)
    return _Held(found.vectors, wanted, held)
