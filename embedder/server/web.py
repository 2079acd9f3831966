"""The HTTP servers that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp

from embedder.config import ServeSettings, is_loopback
from embedder.telemetry.collector import Source
from embedder.web.guard import WebGuard
from embedder.web.http_server import HttpAddress, HttpServer
from embedder.web.metrics_app import metrics_app


class WebServers:
    """Metrics over HTTP, from the bind until the last call has ended."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._servers: list[HttpServer] = []
        self.metrics_url: str | None = None

    def start(self, sources: Iterable[Source]) -> None:
        """Bind and serve what the settings ask for.

        Args:
            sources: where metrics come from.

        Raises:
            ConfigurationError: an address can't be bound.
        """
        if address := self._settings.metrics_address:
            server = self._serve("metrics_address", address, metrics_app(sources), needs_token=lambda _: True)
            self.metrics_url = f"{server.url}/metrics"

    def close(self) -> None:
        """Let running requests end, and stop."""
        while self._servers:
            self._servers.pop().close()

    def _serve(self, setting: str, address: str, app: ASGIApp, *, needs_token: Callable[[str], bool]) -> HttpServer:
        settings = self._settings
        token = settings.bearer_token.get_secret_value() if settings.bearer_token else None
        guarded = WebGuard(app, bearer_token=token, loopback=is_loopback(address), needs_token=needs_token)
        where = HttpAddress(setting, address, settings.tls_certificate, settings.tls_key)
        server = HttpServer(guarded, where)
        self._servers.append(server)
        return server
