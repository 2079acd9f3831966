"""A channel: one thread that owns one ZeroMQ socket, since a socket belongs to one thread; others leave messages and wake it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import structlog
import zmq

_log = structlog.get_logger(__name__)


Collect = Callable[[], Iterable[Sequence[bytes]]]
Receive = Callable[[list[bytes]], None]


class Channel:
    """Sends what `collect` gives whenever it was woken, and hands on what arrives; both run in the channel's thread.

    Many wake-ups before the thread runs are one: what was left meanwhile goes out together.
    """

    def __init__(self, socket: zmq.Socket[bytes], *, name: str, collect: Collect, receive: Receive) -> None:
        self._socket = socket
        self._collect = collect
        self._receive = receive
        self._wake_descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_woken = False
        self._is_closed = False
        self._linger_ms = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @classmethod
    def listen(
        cls, context: zmq.Context[zmq.Socket[bytes]], path: Path, *, collect: Collect, receive: Receive
    ) -> Channel:
        """Bind a Unix socket that many connect to; each message has its peer's name as the first frame."""
        socket = _socket(context, zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)  # who connects anew under its name is not refused
        socket.bind(f"ipc://{path}")
        return cls(socket, name=path.name, collect=collect, receive=receive)

    @classmethod
    def connect(
        cls, context: zmq.Context[zmq.Socket[bytes]], path: Path, *, own_name: bytes, collect: Collect, receive: Receive
    ) -> Channel:
        """Connect to a Unix socket."""
        socket = _socket(context, zmq.DEALER)
        socket.setsockopt(zmq.IDENTITY, own_name)
        socket.connect(f"ipc://{path}")
        return cls(socket, name=path.name, collect=collect, receive=receive)

    def wake(self) -> None:
        """Let the thread collect, soon."""
        if self._is_woken:
            return
        with self._lock:
            if not self._is_closed:
                self._is_woken = True
                os.eventfd_write(self._wake_descriptor, 1)

    def close(self, *, linger_ms: int = 0) -> None:
        """Stop the thread; what was given to the socket may still go out for `linger_ms`."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._linger_ms = linger_ms
            os.eventfd_write(self._wake_descriptor, 1)
        self._thread.join()
        os.close(self._wake_descriptor)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._socket, zmq.POLLIN)
        poller.register(self._wake_descriptor, zmq.POLLIN)
        try:
            while not self._is_closed:
                ready = dict(poller.poll())
                if self._wake_descriptor in ready:
                    os.eventfd_read(self._wake_descriptor)
                    self._is_woken = False  # before collecting: who leaves a message from now on wakes again
                    self._guarded(self._send_collected)
                if self._socket in ready:
                    self._guarded(self._take_arrived)
            self._guarded(self._send_collected)
        finally:
            self._socket.close(linger=self._linger_ms)

    def _send_collected(self) -> None:
        for frames in self._collect():
            self._socket.send_multipart(frames)

    def _take_arrived(self) -> None:
        while True:
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._receive(frames)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception:  # noqa: BLE001 - one defect must not silence all that is to come
            _log.exception("a message was lost", channel=self._thread.name)


def _socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    # What waits is bounded by admission; a full socket would block the one thread that also reads.
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    return socket
