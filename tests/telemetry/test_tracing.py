"""One trace from the caller through the wire, the engine and the heads."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from embedder.demo.daemon import running_daemon
from embedder_client import AsyncClient, Client, ClientSettings, errors

from .conftest import Watched, wait_until

_EMBED = "embedder.v1.EmbeddingService/Embed"


@pytest.fixture
def traced() -> Iterator[tuple[TracerProvider, InMemorySpanExporter]]:
    """Make the caller's side of tracing."""
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield provider, spans
    provider.shutdown()


def _settings(provider: TracerProvider) -> ClientSettings:
    return ClientSettings(client_name="traced", retry_attempts=1, timeout_s=60, tracer_provider=provider)


def _trace_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.trace_id


def _one(spans: Sequence[ReadableSpan], name: str) -> ReadableSpan:
    (span,) = [span for span in spans if span.name == name]
    return span


def test_one_trace_runs_from_the_caller_through_the_engine_to_the_heads(
    watched: Watched, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, spans = traced
    texts = ["traced from end to end", "and this one beside it"]
    with Client(watched.target, settings=_settings(provider)) as client:
        client.predict(texts, heads=["topic"])
    (asked,) = spans.get_finished_spans()
    parts = ("lookup", "prepare", "queue", "encode", "heads")
    served = watched.spans_of(_trace_id(asked), ["embedder.v1.HeadService/Predict", *parts])
    call = _one(served, "embedder.v1.HeadService/Predict")
    assert (asked.kind, call.kind) == (SpanKind.CLIENT, SpanKind.SERVER)
    assert asked.context is not None
    assert call.context is not None
    assert call.parent is not None
    assert call.parent.span_id == asked.context.span_id
    for name in parts:
        part = _one(served, name)
        assert part.parent is not None
        assert part.parent.span_id == call.context.span_id
        assert call.start_time <= part.start_time <= part.end_time
    lookup, prepare, queue, encode, heads = [_one(served, name) for name in parts]
    assert prepare.end_time <= queue.end_time <= encode.end_time
    assert encode.attributes["embedder.batch.items"] == 2
    assert lookup.attributes["embedder.cache_hits"] == 0
    assert heads.attributes["embedder.heads"] == ("topic",)


def test_a_span_names_a_few_of_very_many_heads_and_counts_them(
    watched: Watched, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, spans = traced
    with Client(watched.target, settings=_settings(provider)) as client:
        client.predict(["asked by very many"], heads=["topic", "topic@1"] * 500, packed_scores=True)
    (asked,) = spans.get_finished_spans()
    heads = _one(watched.spans_of(_trace_id(asked), ["heads"]), "heads")
    assert heads.attributes is not None
    assert heads.attributes["embedder.heads"] == ("topic",) * 8
    assert heads.attributes["embedder.heads.count"] == 1_000


def test_embed_is_an_embeddings_operation_by_the_genai_conventions(
    watched: Watched, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, spans = traced
    with Client(watched.target, settings=_settings(provider)) as client:
        client.embed(["a conventional call"], space="default", dim=64)
    (asked,) = spans.get_finished_spans()
    served = _one(watched.spans_of(_trace_id(asked), [_EMBED]), _EMBED)
    for span in (asked, served):
        assert span.attributes["gen_ai.operation.name"] == "embeddings"
        assert span.attributes["rpc.system"] == "grpc"
        assert span.attributes["rpc.method"] == "Embed"
    assert served.attributes["gen_ai.request.model"] == "default"
    assert served.attributes["gen_ai.response.model"] == "default@1"
    assert served.attributes["gen_ai.embeddings.dimension.count"] == 64
    assert asked.attributes["server.port"] == int(watched.target.rpartition(":")[2])


def test_a_hit_is_traced_without_the_device(
    watched: Watched, traced: tuple[TracerProvider, InMemorySpanExporter], client: Client
) -> None:
    provider, spans = traced
    client.embed(["held before it is traced"], durable=True)
    with Client(watched.target, settings=_settings(provider)) as tracing_client:
        tracing_client.embed(["held before it is traced"])
    (asked,) = spans.get_finished_spans()
    served = watched.spans_of(_trace_id(asked), [_EMBED])
    assert {span.name for span in served} == {_EMBED, "lookup"}
    assert _one(served, "lookup").attributes["embedder.cache_hits"] == 1


def test_streams_and_asyncio_are_traced_too(
    watched: Watched, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, spans = traced
    with Client(watched.target, settings=_settings(provider)) as client:
        results = list(client.embed_stream([["streamed and traced"], ["streamed and traced again"]]))
    assert len(results) == 2

    async def ask() -> None:
        async with AsyncClient(watched.target, settings=_settings(provider)) as client:
            await client.embed(["awaited and traced"])

    asyncio.run(ask())
    streamed, awaited = spans.get_finished_spans()
    stream = "embedder.v1.EmbeddingService/EmbedStream"
    assert (streamed.name, awaited.name) == (stream, _EMBED)
    assert watched.spans_of(_trace_id(streamed), [stream, "lookup", "encode"])
    assert watched.spans_of(_trace_id(awaited), [_EMBED, "lookup", "encode"])


def test_refused_call_is_an_error_on_both_sides(
    watched: Watched, traced: tuple[TracerProvider, InMemorySpanExporter]
) -> None:
    provider, spans = traced
    with Client(watched.target, settings=_settings(provider)) as client, pytest.raises(errors.InvalidRequest):
        client.embed(["x"], dim=100_000)
    (asked,) = spans.get_finished_spans()
    served = _one(watched.spans_of(_trace_id(asked), [_EMBED]), _EMBED)
    assert asked.status.status_code is StatusCode.ERROR
    assert served.status.status_code is StatusCode.ERROR
    assert served.attributes["error.type"] == "INVALID_REQUEST"
    assert served.attributes["rpc.grpc.status_code"] == grpc.StatusCode.INVALID_ARGUMENT.value[0]


class _Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """The receiving end of OTLP, as a collector has it."""

    def __init__(self) -> None:
        self.spans: list[tuple[bytes, str]] = []

    def Export(self, request: trace_service_pb2.ExportTraceServiceRequest, context: grpc.ServicerContext) -> object:
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend((span.trace_id, span.name) for span in scope.spans)
        return trace_service_pb2.ExportTraceServiceResponse()


@pytest.mark.parametrize("processes", [[], ["--frontends", "2"]], ids=["one process", "two front-ends"])
def test_a_daemon_sends_its_spans_to_a_collector(
    tmp_path: Path, traced: tuple[TracerProvider, InMemorySpanExporter], processes: list[str]
) -> None:
    provider, spans = traced
    collector = _Collector()
    with ThreadPoolExecutor(2, thread_name_prefix="call") as pool:
        server = grpc.server(pool)
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        with running_daemon(tmp_path, ["--trace-endpoint", f"http://127.0.0.1:{port}", *processes]) as target:
            with Client(target, settings=_settings(provider)) as client:
                client.embed(["a trace that leaves the machine"])
        (asked,) = spans.get_finished_spans()
        trace_id = _trace_id(asked).to_bytes(16, "big")
        expected = {_EMBED, "lookup", "prepare", "queue", "encode"}
        wait_until(lambda: expected <= {name for trace, name in collector.spans if trace == trace_id})
        server.stop(0).wait()
    told = [name for trace, name in collector.spans if trace == trace_id]
    assert sorted(told) == sorted(expected), "each part once, whichever process did it"


def test_nothing_of_opentelemetry_is_imported_when_nothing_is_traced() -> None:
    program = (
        "import sys; import embedder.server.service, embedder_client; "
        "sys.exit(any(name.startswith('opentelemetry') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=120).returncode == 0
