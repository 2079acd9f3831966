"""How the asyncio client is connected, and one request of it on its way."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from embedder_client.channel import channel_credentials, open_connection, open_replica
from embedder_client.encoding import on_wire
from embedder_client.plans import Rpc
from embedder_client.replica_addresses import check_replica_target
from embedder_client.replica_probe import AsyncReplicaKeeper
from embedder_client.replicas import ReplicaSet
from embedder_client.sending import OneService, Replicated, Way, Ways, remaining_s
from embedder_client.settings import ClientSettings
from embedder_client.tracing import Metadata


class AsyncService:
    """A channel to one service, opened in the running event loop."""

    def __init__(self, target: str, settings: ClientSettings) -> None:
        self._connection = open_connection(grpc.aio, target, settings, channel_credentials(target, settings))
        self._ways = OneService(self._connection, attempts=settings.retry_attempts)

    async def ways(self) -> Ways:
        """Return the ways of requests."""
        return self._ways

    async def close(self) -> None:
        """Close the channel."""
        await self._connection.channel.close()


class AsyncReplicas:
    """Channels to several replicas, and the task that looks after them, in the running event loop."""

    def __init__(self, target: str, settings: ClientSettings) -> None:
        replicas = ReplicaSet(lambda address: open_replica(grpc.aio, address, settings), settings.max_load_factor)
        self._keeper = AsyncReplicaKeeper(replicas, target, settings)
        self._ways = Replicated(replicas, attempts=settings.retry_attempts, on_gone=self._keeper.wake)

    async def ways(self) -> Ways:
        """Return the ways of requests; the first time, find the replicas and ask them, which takes time."""
        await self._keeper.start()
        return self._ways

    async def close(self) -> None:
        """Stop looking after the replicas, and close the channels."""
        await self._keeper.close()


def check_target(target: str, settings: ClientSettings, *, locality: bool) -> None:
    """Do nothing if a client may be connected so.

    Raises:
        InvalidRequest: the target names no replicas, or a bearer token would travel in plaintext.
    """
    if locality:
        check_replica_target(target)
    channel_credentials(target, settings)


class AsyncSending:
    """One request on its way: sent, and while that is of use sent again."""

    def __init__(self, rpc: Rpc, request: Any, way: Way, deadline: float, metadata: Metadata) -> None:
        """Send the request.

        Args:
            rpc: the method.
            request: a message, or an upload.
            way: where to.
            deadline: by `time.monotonic`.
            metadata: goes with it each time.
        """
        self._rpc = rpc
        self._request = request
        self._way = way
        self._deadline = deadline
        self._metadata = metadata
        self._call: Any = None
        self._closed_error: grpc.aio.UsageError | None = None
        self._send()

    async def answer(self) -> Any:
        """Return the answer.

        Raises:
            grpc.RpcError: there is none.
        """
        while True:
            try:
                if self._closed_error is not None:
                    raise self._closed_error
                return await self._call
            except (grpc.RpcError, grpc.aio.UsageError, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                wait_s = self._way.wait_s(error, remaining_s=remaining_s(self._deadline))
                if wait_s is None:
                    raise
            await asyncio.sleep(wait_s)
            self._send()

    def end(self) -> None:
        """Give the request up, unless it was answered."""
        if self._call is not None:
            self._call.cancel()
        self._way.end()

    def _send(self) -> None:
        self._closed_error = None
        method = self._way.connection.methods[self._rpc]
        try:
            self._call = method(on_wire(self._request), timeout=remaining_s(self._deadline), metadata=self._metadata)
        except grpc.aio.UsageError as error:  # gRPC's word for a channel that was closed meanwhile
            self._closed_error = error


def _is_cancelled() -> bool:
    """Whether the running task itself was told to end; a closed channel cancels its calls too."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
