"""OpenTelemetry traces: a span for each call, in its caller's trace, and spans for what was done for it.

Where a trace goes on is told by a W3C `traceparent`, a plain string: over gRPC it is metadata, and inside the service it stands in the
call's options, so it crosses threads and processes alike. This module is imported only when tracing is on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Span, SpanKind, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

Attributes = Mapping[str, str | bool | int | float | Sequence[str]]

_PROPAGATOR = TraceContextTextMapPropagator()


class Tracing:
    """Makes the service's spans and hands them to a tracer provider. Thread-safe; exporting happens in a thread of the SDK's."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("embedder", version("embedder"))

    @contextmanager
    def call(self, name: str, metadata: Mapping[str, str], attributes: Attributes) -> Iterator[tuple[Span, str]]:
        """Open the span of a call, in the trace that its metadata carries.

        Returns:
            the span, and the `traceparent` under which the call's parts go on; empty when the call is not sampled.
        """
        parent = _PROPAGATOR.extract(metadata)
        with self._tracer.start_as_current_span(
            name, parent, kind=SpanKind.SERVER, attributes=attributes, record_exception=False
        ) as span:
            yield span, traceparent_of(span)

    def open_call(self, name: str, metadata: Mapping[str, str], attributes: Attributes) -> tuple[Span, str]:
        """Open the span of a call that no one thread carries; who answers it ends it. Otherwise as `call`."""
        parent = _PROPAGATOR.extract(metadata)
        span = self._tracer.start_span(name, parent, kind=SpanKind.SERVER, attributes=attributes)
        return span, traceparent_of(span)

    def span(self, traceparent: str, name: str, start_ns: int, end_ns: int, attributes: Attributes) -> None:
        """Make a span of something that has ended, below `traceparent`; times are nanoseconds since 1970."""
        span = self._tracer.start_span(name, _context(traceparent), start_time=start_ns, attributes=attributes)
        span.end(end_ns)

    def span_until_now(self, traceparent: str, name: str, seconds: float, attributes: Attributes) -> None:
        """Make a span of something that took `seconds` and has just ended."""
        now_ns = time.time_ns()
        self.span(traceparent, name, now_ns - round(seconds * 1e9), now_ns, attributes)

    def clock(self) -> Callable[[float], int]:
        """Return what turns `time.monotonic()` seconds of the last while into nanoseconds since 1970."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        return lambda at: offset_ns + round(at * 1e9)

    def close(self) -> None:
        """Export what is left, and end the SDK's thread."""
        self._provider.shutdown()


def exporting_tracing(*, endpoint: str, sample_ratio: float, space: str) -> Tracing:
    """Return tracing whose spans go to an OTLP collector over gRPC.

    Args:
        endpoint: the collector, such as `http://127.0.0.1:4317`; `https` encrypts.
        sample_ratio: share of the calls without a trace of their own that begin one; a caller's decision is kept.
        space: what is served, for the resource's attributes.
    """
    resource = Resource.create(
        {"service.name": "embedder-serve", "service.version": version("embedder"), "embedder.space": space}
    )
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(sample_ratio)), resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint)))
    return Tracing(provider)


def traceparent_of(span: Span) -> str:
    """Return the W3C `traceparent` that names a span; empty when it is not sampled."""
    carrier: dict[str, str] = {}
    if span.get_span_context().trace_flags.sampled:
        _PROPAGATOR.inject(carrier, set_span_in_context(span))
    return carrier.get("traceparent", "")


def _context(traceparent: str) -> Context:
    return _PROPAGATOR.extract({"traceparent": traceparent})
