"""EmbeddingService: contents in, vectors out."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import grpc
import numpy as np

from embedder.engine.contents import EmbedOptions, Lane
from embedder.engine.ticket import Ticket
from embedder.errors import EmbedderError, Overloaded
from embedder.server.call import Call
from embedder.server.contents import WireContents, check_hashes, items_of
from embedder.server.replies import (
    check_options,
    cost_message,
    error_messages,
    provenance_message,
    sources_of,
    vectors_message,
)
from embedder.server.runtime import Runtime, RuntimeGate
from embedder.server.spaces import ServedSpace
from embedder_client.content_hash import HASH_BYTES
from embedder_client.v1 import embedding_service_pb2 as pb
from embedder_client.v1 import embedding_service_pb2_grpc as pb_grpc

# Batches of one stream that may be under way at once: enough to keep the device busy, few enough that memory stays bounded.
_STREAM_WINDOW = 4


class EmbeddingService(pb_grpc.EmbeddingServiceServicer):
    """Serves `embedder.v1.EmbeddingService`."""

    def __init__(self, gate: RuntimeGate, *, default_deadline_s: float) -> None:
        self._gate = gate
        self._default_deadline_s = default_deadline_s

    def Embed(self, request: pb.EmbedRequest, context: grpc.ServicerContext) -> pb.EmbedResponse:
        """Embed a batch of contents."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        batch = _Batch(self._gate.get(), call, request)
        batch.start()
        batch.abandon_with(context)
        return batch.reply()

    def EmbedStream(
        self, request_iterator: Iterator[pb.EmbedStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedStreamResponse]:
        """Embed batches in the order of asking, a few at a time; a full queue slows the stream down instead of failing it."""
        window: queue.Queue[tuple[int, _Batch] | EmbedderError | None] = queue.Queue(maxsize=_STREAM_WINDOW)
        reader = threading.Thread(target=self._read_stream, args=(request_iterator, context, window), daemon=True)
        reader.start()
        while (entry := window.get()) is not None:
            if isinstance(entry, EmbedderError):
                raise entry
            sequence, batch = entry
            yield pb.EmbedStreamResponse(sequence=sequence, response=batch.reply())
        reader.join()

    def Lookup(self, request: pb.LookupRequest, context: grpc.ServicerContext) -> pb.LookupResponse:
        """Read vectors by content hash."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        space = runtime.spaces.resolve(request.options.space)
        check_options(request.options, space)
        check_hashes(request.content_hashes, max_items=runtime.settings.max_items_per_call)
        options = call.options(lane=0, task=request.task)
        found, held = space.engine.lookup(request.content_hashes)
        if len(held.sources):
            # What is wanted was not answered: the caller asks again with the content, and is counted then.
            hashes = np.frombuffer(request.content_hashes, np.uint8).reshape(-1, HASH_BYTES)  # (n, 32)
            runtime.account(space).record_answers(options, held, hashes[found.found].tobytes())
        return pb.LookupResponse(
            vectors=vectors_message(found.vectors, request.options),
            wanted=np.flatnonzero(~found.found).tolist(),
            provenance=provenance_message(space),
            cost=cost_message(call, held, device=space.info.device),
        )

    def _read_stream(
        self,
        requests: Iterator[pb.EmbedStreamRequest],
        context: grpc.ServicerContext,
        window: queue.Queue[tuple[int, _Batch] | EmbedderError | None],
    ) -> None:
        """Start each batch as it arrives; ends with None, or with the error that ends the stream."""
        try:
            for request in requests:
                call = Call.of(context, default_deadline_s=self._default_deadline_s)
                batch = _Batch(self._gate.get(), call, request.request)
                batch.start_patiently(context)
                batch.abandon_with(context)
                window.put((request.sequence, batch))
        except EmbedderError as error:
            window.put(error)
        except grpc.RpcError:
            pass  # the caller went away, and nobody reads an answer
        window.put(None)


class _Batch:
    """One Embed request on its way."""

    def __init__(self, runtime: Runtime, call: Call, request: pb.EmbedRequest) -> None:
        self._runtime = runtime
        self._call = call
        self._request = request
        self._space: ServedSpace = runtime.spaces.resolve(request.options.space)
        check_options(request.options, self._space)
        self._options: EmbedOptions = call.options(lane=request.lane, task=request.task, durable=request.durable)
        self._items: WireContents = items_of(request.contents, max_items=runtime.settings.max_items_per_call)
        self._ticket: Ticket | None = None

    def start(self) -> None:
        """Look the contents up and start computing what is missing."""
        self._ticket = self._space.engine.start(self._items, self._options)

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
        assert self._ticket is not None
        if not self._ticket.is_done:
            context.add_callback(self._ticket.abandon)

    def reply(self) -> pb.EmbedResponse:
        """Wait for every row, count the call, and answer."""
        assert self._ticket is not None
        engine = self._space.engine
        self._ticket.wait()
        outcome = engine.outcome(self._ticket, self._items)
        self._runtime.account(self._space).record_answers(self._options, outcome, self._items.named_hashes)
        return pb.EmbedResponse(
            vectors=vectors_message(outcome.vectors, self._request.options),
            sources=sources_of(outcome),
            errors=error_messages(outcome.failures),
            provenance=provenance_message(self._space),
            cost=cost_message(self._call, outcome, device=self._space.info.device),
        )
