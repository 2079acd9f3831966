"""The page: its files, and the figures that it asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from embedder.errors import EmbedderError, InvalidRequest, Unavailable

FILES = Path(__file__).parent / "page"
FIGURES_PATH = "/api/savings"

Figures = Mapping[str, Any]


def page_app(figures_of: Callable[[str], Figures]) -> Starlette:
    """Return the application that serves the page.

    Args:
        figures_of: returns all that the page shows of a span of time, by the span's name.
    """

    # Not coroutines: what they do takes time, and then happens in a thread.
    def index(request: Request) -> Response:
        return FileResponse(FILES / "index.html", headers={"cache-control": "no-cache"})

    def figures(request: Request) -> Response:
        try:
            told = figures_of(request.query_params.get("span", "all"))
        except EmbedderError as error:
            status = {InvalidRequest: 400, Unavailable: 503}.get(type(error), 500)
            return JSONResponse({"error": str(error)}, status)
        return JSONResponse(told, headers={"cache-control": "no-store"})

    return Starlette(
        routes=[
            Route("/", index),
            Route(FIGURES_PATH, figures),
            Mount("/page", StaticFiles(directory=FILES)),
        ],
        middleware=[Middleware(GZipMiddleware, minimum_size=1_000)],
    )
