"""The HTTP servers that the settings ask for."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp

from embedder.config import ServeSettings, is_loopback
from embedder.server.page_figures import PageFigures
from embedder.telemetry.collector import Source
from embedder.web.guard import WebGuard
from embedder.web.http_server import HttpAddress, HttpServer
from embedder.web.metrics_app import metrics_app
from embedder.web.page_app import FIGURES_PATH, page_app


class WebServers:
    """Metrics and the page over HTTP, from the bind until the last call has ended."""

    def __init__(self, settings: ServeSettings) -> None:
        self._settings = settings
        self._servers: list[HttpServer] = []
        self.metrics_url: str | None = None
        self.dashboard_url: str | None = None

    def start(self, sources: Iterable[Source], figures: PageFigures) -> None:
        """Bind and serve what the settings ask for.

        Args:
            sources: where metrics come from.
            figures: what the page shows.

        Raises:
            ConfigurationError: an address can't be bound.
        """
        if address := self._settings.metrics_address:
            server = self._serve("metrics_address", address, metrics_app(sources), needs_token=lambda _: True)
            self.metrics_url = f"{server.url}/metrics"
        if self._settings.dashboard:
            # The files of the page tell nothing; its figures do.
            server = self._serve(
                "dashboard_address",
                self._settings.dashboard_address,
                page_app(figures.read),
                needs_token=lambda path: path == FIGURES_PATH,
            )
            self.dashboard_url = f"{server.url}/"

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
