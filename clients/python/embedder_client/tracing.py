"""OpenTelemetry spans of calls, when the settings bring a tracer provider; nothing of it is imported otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from embedder_client.errors import EmbedderClientError, InvalidRequest
from embedder_client.plans import Rpc
from embedder_client.settings import ClientSettings
from embedder_client.v1 import admin_service_pb2, embedding_service_pb2, head_service_pb2, savings_service_pb2

Metadata = tuple[tuple[str, str], ...]

_SERVICES: Mapping[str, str] = {
    method.name: service.full_name
    for module in (embedding_service_pb2, head_service_pb2, savings_service_pb2, admin_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
# Their answer is vectors: an embeddings operation by the GenAI conventions.
_EMBEDDINGS = (Rpc.EMBED, Rpc.EMBED_STREAM, Rpc.LOOKUP)


class CallTracing:
    """Makes a client span of each call, below the caller's current span, and names it to the service."""

    def __init__(self, provider: Any, target: str) -> None:
        """Trace the calls to `target`.

        Raises:
            InvalidRequest: OpenTelemetry is not installed.
        """
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ImportError as error:
            raise InvalidRequest(
                "tracer_provider needs opentelemetry-api: pip install 'embedder-client[otel]'"
            ) from error
        self._trace = trace
        self._propagator = TraceContextTextMapPropagator()
        self._tracer = trace.get_tracer("embedder_client", tracer_provider=provider)
        host, _, port = target.rpartition(":")
        self._server: dict[str, Any] = {"server.address": host or target}
        if port.isdigit():
            self._server["server.port"] = int(port)

    @contextmanager
    def call(self, rpc: Rpc, metadata: Metadata, *, requests: int) -> Iterator[Metadata]:
        """Open the span of one call, or of the parts that it was split into; gives `metadata` with what names the span."""
        service = _SERVICES[rpc]
        attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": str(rpc), **self._server}
        if rpc in _EMBEDDINGS:
            attributes |= {"gen_ai.operation.name": "embeddings", "gen_ai.provider.name": "embedder"}
        if requests > 1:
            attributes["embedder.requests"] = requests
        span = self._tracer.start_span(f"{service}/{rpc}", kind=self._trace.SpanKind.CLIENT, attributes=attributes)
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(span))
        try:
            yield (*metadata, *carrier.items())
        except EmbedderClientError as error:
            span.set_attribute("error.type", type(error).__name__)
            span.set_status(self._trace.StatusCode.ERROR, str(error))
            raise
        finally:
            span.end()


def call_tracing(settings: ClientSettings, target: str) -> CallTracing | None:
    """Return what traces a client's calls; None when its settings bring no tracer provider."""
    return None if settings.tracer_provider is None else CallTracing(settings.tracer_provider, target)
