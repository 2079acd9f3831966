"""Asks replicas whether they serve, and whose cache they are; looks after them while a client lives."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from embedder_client.channel import Connection
from embedder_client.errors import ConnectionFailed
from embedder_client.plans import Rpc
from embedder_client.replica_addresses import ReplicaAddress, find_replicas
from embedder_client.replicas import Replica, ReplicaSet
from embedder_client.settings import ClientSettings
from embedder_client.v1 import admin_service_pb2

_CHECK = "/grpc.health.v1.Health/Check"
_SERVING = b"\x08\x01"
"""A HealthCheckResponse of status SERVING, and the empty request asks for the server as a whole: no stub is needed for it."""
_CHECK_TIMEOUT_S = 3.0
_GONE_INTERVAL_S = 1.0
_MIN_RESOLVE_INTERVAL_S = 5.0
_MIN_PAUSE_S = 0.2
"""Between two rounds, however many calls fail meanwhile."""


class _Rounds:
    """When replicas are asked, and what their answers mean; the same for threads and for asyncio."""

    def __init__(self, replicas: ReplicaSet, target: str, settings: ClientSettings) -> None:
        self.replicas = replicas
        self._target = target
        self._settings = settings
        self._resolved_at: float | None = None

    def pause_s(self) -> float:
        """Return the time until the next round; spread, so that many clients do not ask in step."""
        everyone = self.replicas.all()
        is_whole = everyone and all(replica.is_serving for replica in everyone)
        interval_s = self._settings.health_interval_s
        return (interval_s if is_whole else min(interval_s, _GONE_INTERVAL_S)) * random.uniform(0.8, 1.2)

    def find(self) -> list[ReplicaAddress] | None:
        """Look the addresses up, if it is time to; None if it is not. Takes time.

        Raises:
            ConnectionFailed: none is known, and none was before.
        """
        now = time.monotonic()
        if self._resolved_at is not None:
            is_whole = all(replica.is_serving for replica in self.replicas.all())
            interval_s = self._settings.resolve_interval_s
            if now - self._resolved_at < (interval_s if is_whole else min(interval_s, _MIN_RESOLVE_INTERVAL_S)):
                return None
        try:
            found = find_replicas(self._target)
        except ConnectionFailed:
            if self._resolved_at is None:
                raise
            found = None  # DNS is away: those that were known are still there
        self._resolved_at = now
        return found

    def take_check(self, replica: Replica, answer: bytes | grpc.RpcError) -> tuple[bool, Connection | None]:
        """Take the answer to a health check; returns whether the replica serves, and a connection to close, if any."""
        if isinstance(answer, bytes):
            if answer == _SERVING:
                return True, None
            self.replicas.note_gone(replica)
            return False, None
        error: Any = answer
        match error.code():
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return False, self.replicas.note_missed_check(replica)
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                self.replicas.note_gone(replica)
                return False, None
        return True, None  # it answers, and does not know health or does not say it to us

    def take_identity(self, replica: Replica, answer: Any) -> None:
        """Take the answer to GetLimits, or the error that came instead: it brings the cache's id."""
        if isinstance(answer, admin_service_pb2.GetLimitsResponse):
            self.replicas.note_serving(replica, answer.cache_id)
        elif answer.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}:
            self.replicas.note_gone(replica)
        else:
            self.replicas.note_serving(replica, "")


class ReplicaKeeper:
    """Keeps a blocking client's replicas up to date, in a thread."""

    def __init__(self, replicas: ReplicaSet, target: str, settings: ClientSettings) -> None:
        self._rounds = _Rounds(replicas, target, settings)
        self._wake = threading.Event()
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Find and ask the replicas once, which takes time, and go on in a thread; does nothing the second time.

        Raises:
            ConnectionFailed: none is known.
            InvalidRequest: a bearer token would travel in plaintext to another machine.
        """
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._closed.is_set():
                self._ask_all()
                self._thread = threading.Thread(target=self._run, name="embedder-replicas", daemon=True)
                self._thread.start()

    def wake(self) -> None:
        """Ask soon: one did not answer a call."""
        self._wake.set()

    def close(self) -> None:
        """Stop, and close every connection."""
        with self._lock:
            self._closed.set()
            self._wake.set()
            if self._thread is not None:
                self._thread.join()
            for connection in self._rounds.replicas.close():
                connection.channel.close()

    def _run(self) -> None:
        while True:
            self._wake.wait(self._rounds.pause_s())
            self._wake.clear()
            if self._closed.wait(_MIN_PAUSE_S):
                return
            with contextlib.suppress(ValueError):  # a channel was closed while it was asked
                self._ask_all()

    def _ask_all(self) -> None:
        replicas = self._rounds.replicas
        found = self._rounds.find()
        if found is not None:
            for connection in replicas.set_addresses(found):
                connection.channel.close()
        everyone = replicas.all()
        checks = [(replica, _ask(_checker(replica.connection), b"", replica)) for replica in everyone]
        serving = []
        for replica, check in checks:
            is_serving, dead = self._rounds.take_check(replica, _answer(check))
            if dead is not None:
                dead.channel.close()  # its calls end, and are sent elsewhere
            if is_serving and replica.is_named:
                replicas.note_serving(replica, None)
            elif is_serving:
                serving.append(replica)
        request = admin_service_pb2.GetLimitsRequest()
        asked = [(replica, _ask(replica.connection.methods[Rpc.GET_LIMITS], request, replica)) for replica in serving]
        for replica, identity in asked:
            self._rounds.take_identity(replica, _answer(identity))


class AsyncReplicaKeeper:
    """Keeps an asyncio client's replicas up to date, in a task."""

    def __init__(self, replicas: ReplicaSet, target: str, settings: ClientSettings) -> None:
        self._rounds = _Rounds(replicas, target, settings)
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Find and ask the replicas once, and go on in a task; see `ReplicaKeeper.start`."""
        if self._task is not None:
            return
        async with self._lock:
            if self._task is None:
                await self._ask_all()
                self._task = asyncio.create_task(self._run(), name="embedder-replicas")

    def wake(self) -> None:
        """Ask soon: one did not answer a call."""
        self._wake.set()

    async def close(self) -> None:
        """Stop, and close every connection."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for connection in self._rounds.replicas.close():
            await connection.channel.close()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._rounds.pause_s()):
                    await self._wake.wait()
            self._wake.clear()
            await asyncio.sleep(_MIN_PAUSE_S)
            with contextlib.suppress(grpc.aio.UsageError):  # a channel was closed while it was asked
                await self._ask_all()

    async def _ask_all(self) -> None:
        replicas = self._rounds.replicas
        found = await asyncio.to_thread(self._rounds.find)
        if found is not None:
            for connection in replicas.set_addresses(found):
                await connection.channel.close()
        await asyncio.gather(*(self._ask(replica) for replica in replicas.all()))

    async def _ask(self, replica: Replica) -> None:
        answer = await _awaited(_checker(replica.connection), b"", replica)
        is_serving, dead = self._rounds.take_check(replica, answer)
        if dead is not None:
            await dead.channel.close()
        if is_serving and replica.is_named:
            self._rounds.replicas.note_serving(replica, None)
        elif is_serving:
            request = admin_service_pb2.GetLimitsRequest()
            method = replica.connection.methods[Rpc.GET_LIMITS]
            self._rounds.take_identity(replica, await _awaited(method, request, replica))


def _checker(connection: Connection) -> Any:
    return connection.channel.unary_unary(_CHECK, request_serializer=None, response_deserializer=None)


def _ask(method: Any, request: Any, replica: Replica) -> Callable[[], Any]:
    future = method.future(request, timeout=_CHECK_TIMEOUT_S, metadata=replica.connection.metadata)
    result: Callable[[], Any] = future.result
    return result


def _answer(take: Callable[[], Any]) -> Any:
    try:
        return take()
    except grpc.RpcError as error:
        return error


async def _awaited(method: Any, request: Any, replica: Replica) -> Any:
    try:
        return await method(request, timeout=_CHECK_TIMEOUT_S, metadata=replica.connection.metadata)
    except grpc.RpcError as error:
        return error
