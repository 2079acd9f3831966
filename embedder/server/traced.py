"""A call's span: opened in its caller's trace, and closed with what the call came to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import grpc

from embedder.server.call import TRACEPARENT
from embedder.server.error_table import row_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from embedder.telemetry.tracing import Tracing

Behavior = Callable[[Any, grpc.ServicerContext], Any]

_CARRIED = ("traceparent", "tracestate")
# Their answer is vectors: an embeddings operation by the GenAI conventions.
_EMBEDDINGS = ("Embed", "EmbedStream", "Lookup")


def traced_unary(tracing: Tracing, details: grpc.HandlerCallDetails, inner: Behavior) -> Behavior:
    """Return a behavior of one reply that runs inside its call's span."""

    def behave(request: Any, context: grpc.ServicerContext) -> Any:
        with tracing.call(details.method[1:], _carrier(details), _attributes(details.method)) as (span, traceparent):
            _tell_request(span, request)
            token = TRACEPARENT.set(traceparent)
            try:
                reply = inner(request, context)
            except Exception as error:
                _tell_error(span, error)
                raise
            finally:
                TRACEPARENT.reset(token)
            _tell_reply(span, reply)
            return reply

    return behave


def traced_stream(tracing: Tracing, details: grpc.HandlerCallDetails, inner: Behavior) -> Behavior:
    """Return a behavior of many replies that runs inside its call's span; the span is as long as the stream."""

    def behave(request: Any, context: grpc.ServicerContext) -> Iterator[Any]:
        with tracing.call(details.method[1:], _carrier(details), _attributes(details.method)) as (span, traceparent):
            token = TRACEPARENT.set(traceparent)
            try:
                yield from inner(request, context)
            except Exception as error:
                _tell_error(span, error)
                raise
            finally:
                TRACEPARENT.reset(token)

    return behave


class CallSpan:
    """The span of a call that no one thread carries."""

    def __init__(self, tracing: Tracing, path: str, metadata: Mapping[str, str | bytes]) -> None:
        """Open the span, in the trace that the call's metadata carries."""
        carrier = {key: str(metadata[key]) for key in _CARRIED if key in metadata}
        self._span, self.traceparent = tracing.open_call(path[1:], carrier, _attributes(path))

    def asked(self, request: Any) -> None:
        """Note what the call asks for."""
        _tell_request(self._span, request)

    def answered(self, reply: Any) -> None:
        """Note the answer, and end the span."""
        _tell_reply(self._span, reply)
        self._span.end()

    def failed(self, error: Exception) -> None:
        """Note the error, and end the span."""
        from opentelemetry.trace import StatusCode

        _tell_error(self._span, error)
        self._span.set_status(StatusCode.ERROR, str(error))
        self._span.end()


def _carrier(details: grpc.HandlerCallDetails) -> Mapping[str, str]:
    return {key: value for key, value in details.invocation_metadata if key in _CARRIED}


def _attributes(path: str) -> dict[str, str]:
    _, service, method = path.split("/")
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": method}
    if method in _EMBEDDINGS:
        attributes |= {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "embedder"}
    return attributes


def _tell_request(span: Span, request: Any) -> None:
    space = getattr(getattr(request, "options", None), "space", "")
    if space:
        span.set_attribute("gen_ai.request.model", space)


def _tell_reply(span: Span, reply: Any) -> None:
    span.set_attribute("rpc.grpc.status_code", 0)
    fields = {field.name for field in reply.DESCRIPTOR.fields}
    if "provenance" in fields:
        span.set_attribute("gen_ai.response.model", reply.provenance.space)
    if "vectors" in fields and reply.HasField("vectors"):
        span.set_attribute("gen_ai.embeddings.dimension.count", reply.vectors.dim)
        span.set_attribute("embedder.contents", reply.vectors.rows)


def _tell_error(span: Span, error: Exception) -> None:
    row = row_of(error)
    span.set_attribute("rpc.grpc.status_code", row.code.value[0])
    span.set_attribute("error.type", row.reason)
