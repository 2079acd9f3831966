"""A real service with metrics on, traced into memory, one for this room."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from embedder.config import load_settings
from embedder.server.service import Service
from embedder.telemetry.tracing import Tracing
from embedder_client import Client, ClientSettings
from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]


@dataclass(frozen=True)
class Watched:
    """A service, where its metrics are, and the spans that it made."""

    service: Service
    spans: InMemorySpanExporter

    @property
    def target(self) -> str:
        return self.service.address

    def scrape(self) -> Samples:
        """Return every sample by name and labels."""
        assert self.service.web.metrics_url is not None
        with urllib.request.urlopen(self.service.web.metrics_url, timeout=30) as answer:
            text = answer.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def spans_of(self, trace_id: int, names: Sequence[str]) -> list[ReadableSpan]:
        """Wait until a trace holds spans of all these names, and return all its spans."""

        def spans() -> list[ReadableSpan]:
            finished = self.spans.get_finished_spans()
            return [span for span in finished if span.context and span.context.trace_id == trace_id]

        wait_until(lambda: set(names) <= {span.name for span in spans()})
        return spans()


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread or process."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    settings = load_settings(
        listen_address="127.0.0.1:0",
        metrics_address="127.0.0.1:0",
        data_dir=tmp_path_factory.mktemp("watched"),
        cache_limit_bytes="64 MiB",
        drain_grace_ms=1_000,
    )
    service = Service(settings, tracing=Tracing(provider))
    runtime = service.start()
    space = runtime.spaces.resolve("")
    manifest = HeadManifest(
        name="topic",
        kind=HeadKind.LINEAR,
        task=Task.SINGLE_LABEL,
        space_digest=space.digest.hex(),
        dim=space.info.dim,
        labels=("one", "two"),
        thresholds=(),
        data_digest="0" * 64,
    )
    tensors = {"weight": np.eye(2, space.info.dim, dtype=np.float32), "bias": np.zeros(2, np.float32)}
    HeadRegistry(settings.heads_path).publish(Head(manifest, tensors))
    wait_until(lambda: len(runtime.heads.snapshot.served()) == 1)
    yield Watched(service, spans)
    service.stop()


@pytest.fixture
def client(watched: Watched) -> Iterator[Client]:
    with Client(watched.target, settings=ClientSettings(client_name="tests", retry_attempts=1, timeout_s=60)) as client:
        yield client
