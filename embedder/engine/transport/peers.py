"""What the processes of one service are called on its sockets, and where those lie."""

from __future__ import annotations

from pathlib import Path


def frontend_name(number: int, *, incarnation: int) -> bytes:
    """Name a front-end's process; each start has a name of its own."""
    return f"frontend-{number}-{incarnation}".encode()


def engine_name(number: int, *, incarnation: int) -> bytes:
    """Name an engine's process, likewise."""
    return f"engine-{number}-{incarnation}".encode()


def frontend_of(name: bytes) -> int:
    """Return the number in a front-end's name."""
    return int(name.split(b"-")[1])


def engine_socket(folder: Path, number: int, *, incarnation: int) -> Path:
    """Return an engine's socket; each start has its own, so that nobody talks to a successor by mistake."""
    return folder / f"engine-{number}-{incarnation}"


def keeper_socket(folder: Path, *, incarnation: int) -> Path:
    """Return the keeper's socket, likewise."""
    return folder / f"keeper-{incarnation}"
