"""EmbeddingService: contents in, vectors out."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Iterator

import grpc

from embedder.errors import EmbedderError
from embedder.server.call import Call
from embedder.server.embedding_calls import EmbedCall, look_up
from embedder.server.runtime import RuntimeGate
from embedder.server.spaces import PinnedSpaces
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
        batch = EmbedCall(self._gate.get(), call, request)
        batch.start()
        batch.abandon_with(context)
        batch.wait()
        return batch.reply()

    def EmbedStream(
        self, request_iterator: Iterator[pb.EmbedStreamRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.EmbedStreamResponse]:
        """Embed batches in the order of asking, a few at a time; a full queue slows the stream down instead of failing it."""
        window: queue.Queue[tuple[int, EmbedCall] | EmbedderError | None] = queue.Queue(maxsize=_STREAM_WINDOW)
        # The reader works for the same call: it sees the call's trace.
        run = contextvars.copy_context().run
        reader = threading.Thread(target=run, args=(self._read_stream, request_iterator, context, window), daemon=True)
        reader.start()
        while (entry := window.get()) is not None:
            if isinstance(entry, EmbedderError):
                raise entry
            sequence, batch = entry
            batch.wait()
            yield pb.EmbedStreamResponse(sequence=sequence, response=batch.reply())
        reader.join()

    def EmbedUpload(
        self, request_iterator: Iterator[pb.EmbedUploadRequest], context: grpc.ServicerContext
    ) -> pb.EmbedUploadResponse:
        """Take a content piece by piece, and embed it."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        runtime = self._gate.get()
        with runtime.uploads.receive(request_iterator) as upload:
            batch = EmbedCall(runtime, call, upload.request, upload=upload.item)
            batch.start()
            batch.abandon_with(context)
            batch.wait()
            return pb.EmbedUploadResponse(response=batch.reply())

    def Lookup(self, request: pb.LookupRequest, context: grpc.ServicerContext) -> pb.LookupResponse:
        """Read vectors by content hash."""
        call = Call.of(context, default_deadline_s=self._default_deadline_s)
        return look_up(self._gate.get(), call, request)

    def _read_stream(
        self,
        requests: Iterator[pb.EmbedStreamRequest],
        context: grpc.ServicerContext,
        window: queue.Queue[tuple[int, EmbedCall] | EmbedderError | None],
    ) -> None:
        """Start each batch as it arrives; ends with None, or with the error that ends the stream."""
        try:
            pinned = PinnedSpaces(self._gate.get().directory)
            for request in requests:
                call = Call.of(context, default_deadline_s=self._default_deadline_s)
                batch = EmbedCall(self._gate.get(), call, request.request, pinned=pinned)
                batch.start_patiently(context)
                batch.abandon_with(context)
                window.put((request.sequence, batch))
        except EmbedderError as error:
            window.put(error)
        except grpc.RpcError:
            pass  # the caller went away, and nobody reads an answer
        window.put(None)
