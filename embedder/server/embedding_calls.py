"""One Embed or Lookup call: from the request to the reply, holding no thread in between."""

from __future__ import annotations

import time
from dataclasses import replace

import grpc
import numpy as np

from embedder.engine.composite_engine import AnyTicket
from embedder.engine.contents import ContentItem, EmbedOptions, ItemContents, Lane
from embedder.engine.lookup_engine import Asked
from embedder.errors import Overloaded
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
from embedder.server.spaces import ServedSpace
from embedder_client.content_hash import HASH_BYTES
from embedder_client.v1 import embedding_service_pb2 as pb


class EmbedCall:
    """One Embed request on its way: `start`, then `reply` once its ticket is done."""

    def __init__(
        self, runtime: Runtime, call: Call, request: pb.EmbedRequest, *, upload: ContentItem | None = None
    ) -> None:
        """Read and check the request.

        Args:
            upload: a content that was uploaded, in place of the request's.
        Raises:
            EmbedderError: the call as a whole can't be served.
        """
        self._runtime = runtime
        self._call = call
        self._request = request
        self._space: ServedSpace = runtime.spaces.resolve(request.options.space)
        check_options(request.options, self._space)
        self._options: EmbedOptions = call.options(lane=request.lane, task=request.task, durable=request.durable)
        if request.HasField("post") or request.HasField("segments"):
            segments = request.segments if request.HasField("segments") else None
            self._options = replace(self._options, composite=composite_options(request.post, segments))
        self._items: WireContents | ItemContents = (
            ItemContents([upload])
            if upload is not None
            else items_of(request.contents, max_items=runtime.settings.max_items_per_call)
        )
        self._asked: Asked | None = None
        self._ticket: AnyTicket | None = None

    @property
    def ticket(self) -> AnyTicket:
        """What the call waits for, once it was started."""
        assert self._ticket is not None
        return self._ticket

    @property
    def deadline(self) -> float:
        """`time.monotonic()` seconds after which nobody waits."""
        return self._options.deadline

    def start_if_held(self) -> bool:
        """Answer from the cache alone; False, and nothing was begun, where that does not hold all contents."""
        self._asked = self._space.engine.ask(self._items, self._options)
        if self._asked is None or not self._asked.ticket.is_done:
            return False
        self._ticket = self._asked.ticket
        return True

    @property
    def meets_full_queue(self) -> bool:
        """Whether it would be refused by now, unless others compute its contents already."""
        return self._space.engine.is_full(self._options)

    def start(self) -> AnyTicket:
        """Look the contents up, unless that was done, and start computing what is missing."""
        engine = self._space.engine
        self._ticket = engine.proceed(self._asked) if self._asked else engine.start(self._items, self._options)
        return self._ticket

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
        outcome = self._space.engine.outcome(self.ticket, self._items)
        self._runtime.account(self._space).record_answers(self._options, outcome, self._items.named_hashes)
        return pb.EmbedResponse(
            vectors=vectors_message(outcome.vectors, self._request.options),
            sources=sources_of(outcome),
            errors=error_messages(outcome.failures) if outcome.failures else None,
            provenance=provenance_message(self._space),
            cost=cost_message(self._call, outcome, device=self._space.info.device),
            segments=segment_messages(outcome, self._request.options) if outcome.segments else None,
        )


def look_up(runtime: Runtime, call: Call, request: pb.LookupRequest) -> pb.LookupResponse:
    """Read vectors by content hash, and count what was found.

    Raises:
        EmbedderError: the call as a whole can't be served.
    """
    space = runtime.spaces.resolve(request.options.space)
    check_options(request.options, space)
    check_hashes(request.content_hashes, max_items=runtime.settings.max_items_per_call)
    options = replace(call.options(lane=0, task=request.task), composite=composite_options(request.post))
    found, held = space.engine.lookup(request.content_hashes, options)
    wanted: list[int] = []
    hashes = request.content_hashes
    if len(held.sources) < len(found.found):
        # What is wanted was not answered: the caller asks again with the content, and is counted then.
        wanted = np.flatnonzero(~found.found).tolist()
        hashes = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)[found.found].tobytes()
    if hashes:
        runtime.account(space).record_answers(options, held, hashes)
    return pb.LookupResponse(
        vectors=vectors_message(found.vectors, request.options),
        wanted=wanted,
        provenance=provenance_message(space),
        cost=cost_message(call, held, device=space.info.device),
    )
