"""An HTTP server in a thread of its own, beside the gRPC one."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from embedder.errors import ConfigurationError

_STOP_S = 2


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Where an HTTP server listens, and with what certificate.

    Attributes:
        setting: the setting's name, for errors.
        address: HOST:PORT; port 0 takes a free one.
        certificate: PEM file of the certificate chain; None serves plain HTTP.
        key: PEM file of its private key.
    """

    setting: str
    address: str
    certificate: Path | None = None
    key: Path | None = None


class HttpServer:
    """Serves one ASGI application until it is closed."""

    def __init__(self, app: ASGIApp, where: HttpAddress) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: the address can't be bound, or the certificate can't be read.
        """
        self._socket = _bind(where)
        host = where.address.rpartition(":")[0]
        scheme = "https" if where.certificate else "http"
        self.address = f"{host}:{self._socket.getsockname()[1]}"
        self.url = f"{scheme}://{self.address}"
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            loop="asyncio",
            server_header=False,
            timeout_graceful_shutdown=_STOP_S,
            ssl_certfile=where.certificate,
            ssl_keyfile=where.key,
        )
        try:
            config.load()
        except OSError as error:  # an unreadable certificate, or one that is none
            self._socket.close()
            raise ConfigurationError(f"tls_certificate or tls_key can't be used: {error}") from error
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=f"http {where.setting}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Let running requests end, and stop."""
        self._server.should_exit = True
        self._thread.join()
        with contextlib.suppress(OSError):
            self._socket.close()

    def _run(self) -> None:
        asyncio.run(self._server.serve(sockets=[self._socket]))


def _bind(where: HttpAddress) -> socket.socket:
    host, _, port = where.address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, int(port)))
        listener.listen()  # now, so that who asks before the thread runs waits instead of being refused
    except (OSError, OverflowError) as error:
        listener.close()
        raise ConfigurationError(
            f"{where.setting}={where.address!r} can't be bound: is another process listening there, and is the address this "
            f"machine's? ({error})"
        ) from error
    return listener
