"""GET /metrics: what Prometheus scrapes."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from embedder.telemetry.collector import SnapshotCollector, Source


def metrics_registry(sources: Iterable[Source]) -> CollectorRegistry:
    """Return a registry of the service's metrics and the process's own."""
    registry = CollectorRegistry()
    registry.register(SnapshotCollector(sources))
    ProcessCollector(registry=registry)
    return registry


def metrics_app(sources: Iterable[Source]) -> Starlette:
    """Return the application that serves `/metrics`, in the text format or OpenMetrics as the scraper asks."""
    registry = metrics_registry(sources)

    # Not a coroutine: reading the ledger and the cache's size takes time, and then happens in a thread.
    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"content-type": content_type})

    def root(request: Request) -> Response:
        return RedirectResponse("/metrics")

    return Starlette(routes=[Route("/metrics", metrics), Route("/", root)])
