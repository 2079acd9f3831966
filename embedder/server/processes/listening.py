"""The one port of several front-ends: reserved by the supervisor, so that nobody else shares it by accident."""

from __future__ import annotations

import socket

from embedder.errors import ConfigurationError


class ReservedPort:
    """A TCP port that is bound and not listened on: front-ends bind it too (SO_REUSEPORT), and the system spreads connections."""

    def __init__(self, listen_address: str) -> None:
        """Reserve the port; port 0 takes a free one.

        Raises:
            ConfigurationError: the address is no TCP address of this machine, or another process has the port.
        """
        host, _, port = listen_address.rpartition(":")
        if listen_address.startswith("unix:"):
            raise ConfigurationError(
                f"listen_address={listen_address!r}: a Unix socket can't be shared by front-ends; give a TCP port, or --frontends 1"
            )
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                host.strip("[]") or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            # Without SO_REUSEPORT first: that fails where another process has the port, sharing it or not.
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(place)
                place = probe.getsockname()
            self._socket = socket.socket(family, kind, protocol)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            self._socket.bind(place)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"listen_address={listen_address!r} can't be bound: is another process listening there, and is the address "
                f"this machine's? ({error})"
            ) from error
        self.address = f"{host}:{place[1]}"

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()
