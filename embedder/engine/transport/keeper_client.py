"""The way to the keeper, from a front-end or an engine: requests go out by number, replies come back as futures."""

from __future__ import annotations

import itertools
import json
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import zmq

from embedder.engine.transport.channel import Channel
from embedder.engine.transport.keeper_messages import KeeperKind
from embedder.errors import Unavailable


class KeeperClient:
    """Thread-safe. A request that the keeper did not answer before it went fails as unavailable; nothing is sent twice."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], *, own_name: bytes) -> None:
        self._context = context
        self._own_name = own_name
        self._channel: Channel | None = None
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._waiting: dict[bytes, Future[Any]] = {}
        self._outbox: deque[list[bytes]] = deque()
        self._flush: Callable[[bytes], None] | None = None

    def on_flush(self, flush: Callable[[bytes], None]) -> None:
        """Set what sends this process's usage when the keeper asks for it; it gets the token to send along."""
        self._flush = flush

    def connect(self, path: Path) -> None:
        """Begin to send to a keeper that has started."""
        channel = Channel.connect(
            self._context, path, own_name=self._own_name, collect=self._collect, receive=self._receive
        )
        with self._lock:
            self._channel = channel
            self._outbox.append([KeeperKind.HELLO, b""])
        channel.wake()

    def disconnect(self, why: str, *, linger_ms: int = 0) -> None:
        """Fail what was not answered, since the keeper is gone or is not needed any more."""
        with self._lock:
            channel, self._channel = self._channel, None
        if channel is not None:
            channel.close(linger_ms=linger_ms)
        with self._lock:
            waiting, self._waiting = self._waiting, {}
            self._outbox.clear()
        for future in waiting.values():
            future.set_exception(Unavailable(why))

    def request(self, kind: KeeperKind, *body: bytes) -> Future[Any]:
        """Send a request; the future holds the reply's value, or Unavailable, or what the keeper said as the error."""
        future: Future[Any] = Future()
        number = next(self._numbers).to_bytes(8, "little")
        with self._lock:
            channel = self._channel
            if channel is not None:
                self._waiting[number] = future
                self._outbox.append([kind, number, *body])
        if channel is None:
            future.set_exception(Unavailable("the process that writes the cache and the ledger is restarting"))
        else:
            channel.wake()
        return future

    def _collect(self) -> Iterator[list[bytes]]:
        while True:
            with self._lock:
                if not self._outbox:
                    return
                frames = self._outbox.popleft()
            yield frames

    def _receive(self, frames: list[bytes]) -> None:
        if frames[0] == KeeperKind.FLUSH:
            if self._flush is not None:
                self._flush(frames[1])
            return
        with self._lock:
            future = self._waiting.pop(frames[1], None)
        if future is None:
            return
        reply = json.loads(frames[2])
        if reply["error"] is None:
            future.set_result(reply["value"])
        else:
            future.set_exception(KeeperRefused(reply["error"]))


class KeeperRefused(Exception):
    """The keeper could not do what was asked; the message says why."""
