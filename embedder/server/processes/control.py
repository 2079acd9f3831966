"""What the supervisor and the processes that it started tell each other, over a pipe that only these two have."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NoReturn

from embedder.config import ServeSettings

Role = Literal["keeper", "engine", "frontend"]


@dataclass(frozen=True, slots=True)
class Start:
    """The first message to a process: what it is.

    Attributes:
        role: what it does.
        number: which one of its role, from 0.
        incarnation: how many times it was started, from 1.
        settings: the service's.
        folder: private folder of the sockets.
        frontends: how many front-ends the service has.
        engines: how many engines.
        board: descriptor of the board's memory.
        pixels: descriptors of the pixel pools: a front-end's by engine, an engine's by front-end.
    """

    role: Role
    number: int
    incarnation: int
    settings: ServeSettings
    folder: Path
    frontends: int
    engines: int
    board: int = -1
    pixels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class KeeperUp:
    """The keeper takes requests."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class KeeperDown:
    """The keeper's process is gone; another is being started."""


@dataclass(frozen=True, slots=True)
class EngineUp:
    """An engine takes work.

    Attributes:
        preparation: the pickled half of the encoder that needs no weights; empty for who has it already.
    """

    number: int
    incarnation: int
    preparation: bytes = b""


@dataclass(frozen=True, slots=True)
class EngineDown:
    """An engine's process is gone; another is being started."""

    number: int


@dataclass(frozen=True, slots=True)
class ClientDown:
    """A process that used this one's socket is gone, by its name there."""

    name: bytes


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish what is under way, and end."""


Order = KeeperUp | KeeperDown | EngineUp | EngineDown | ClientDown | Stop


@dataclass(frozen=True, slots=True)
class Ready:
    """A process does its work.

    Attributes:
        details: what the service's banner says of it.
        preparation: from an engine: the pickled half of its encoder that needs no weights.
    """

    details: dict[str, str] = field(default_factory=dict)
    preparation: bytes = b""


@dataclass(frozen=True, slots=True)
class Failed:
    """A process can't do its work, and ends; the words are for the operator."""

    message: str


class ControlPipe:
    """A started process's end of its pipe."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def receive_start(self) -> Start:
        """Wait for the first message."""
        start = self._connection.recv()
        assert isinstance(start, Start)
        return start

    def orders(self) -> Iterator[Order]:
        """Yield what the supervisor says, for as long as it lives; its end is a `Stop`."""
        while True:
            try:
                order: Order = self._connection.recv()
            except (EOFError, OSError):
                order = Stop()
            yield order
            if isinstance(order, Stop):
                return

    def say(self, message: Ready | Failed) -> None:
        """Tell the supervisor."""
        self._connection.send(message)

    def fail(self, message: str) -> NoReturn:
        """Tell the supervisor why this process can't do its work, and end it."""
        self.say(Failed(message))
        raise SystemExit(2)
