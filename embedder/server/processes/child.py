"""One process that the supervisor has started: its pipe, its life, and when it may be started again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from embedder.server.processes.control import Failed, Order, Ready, Role, Start

_MODULE = "embedder.cli.process"
# A process that ends this soon after its start will do so again: it is started again later and later.
_SHORT_LIFE_S = 30.0
_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0


class Child:
    """A process of one role and number, started anew whenever it ends."""

    def __init__(self, role: Role, number: int) -> None:
        self.role = role
        self.number = number
        self.incarnation = 0
        self.is_ready = False
        self.details: dict[str, str] = {}
        self.restart_at = 0.0
        self.silent_since: float | None = None
        self._short_lives = 0
        self._started_at = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    @property
    def name(self) -> str:
        """What it is called, in logs and on sockets."""
        return f"{self.role}-{self.number}"

    @property
    def connection(self) -> Connection | None:
        """The pipe to it; None while it does not run."""
        return self._connection

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not been seen to end."""
        return self._connection is not None

    def start(self, start: Start, *, descriptors: Sequence[int]) -> None:
        """Start the process; it inherits the descriptors and nothing else."""
        ours, theirs = Pipe()
        command = [sys.executable, "-m", _MODULE, self.name, str(theirs.fileno())]
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(theirs.fileno(), *descriptors))
        theirs.close()
        self._connection = ours
        self._started_at = time.monotonic()
        self.is_ready = False
        self.tell(start)

    def tell(self, message: Start | Order) -> None:
        """Send a message; one to a process that has just ended is lost, and its end is noticed elsewhere."""
        if self._connection is not None:
            with suppress(OSError):
                self._connection.send(message)

    def hear(self) -> Ready | Failed | None:
        """Read one message; None when the process has ended."""
        assert self._connection is not None
        try:
            message: Ready | Failed = self._connection.recv()
        except (EOFError, OSError):
            return None
        return message

    def reap(self) -> int:
        """Take note of the process's end, and plan its restart; returns its exit status."""
        assert self._connection is not None
        assert self._process is not None
        self._connection.close()
        self._connection = None
        self.is_ready = False
        status = self._process.wait()
        lived_s = time.monotonic() - self._started_at
        self._short_lives = self._short_lives + 1 if lived_s < _SHORT_LIFE_S else 0
        delay_s = 0.0 if self._short_lives <= 1 else min(_FIRST_DELAY_S * 2**self._short_lives, _LONGEST_DELAY_S)
        self.restart_at = time.monotonic() + delay_s
        return status

    def kill(self) -> None:
        """End the process at once; does nothing to one that has ended."""
        if self._process is not None:
            self._process.kill()
