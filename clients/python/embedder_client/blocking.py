"""How the blocking client is connected, and one request of it on its way."""

from __future__ import annotations

import contextlib
import time
from typing import Any

import grpc

from embedder_client.channel import channel_credentials, open_connection, open_replica
from embedder_client.encoding import on_wire
from embedder_client.plans import Rpc
from embedder_client.replica_addresses import check_replica_target
from embedder_client.replica_probe import ReplicaKeeper
from embedder_client.replicas import ReplicaSet
from embedder_client.sending import OneService, Replicated, Way, Ways, remaining_s
from embedder_client.settings import ClientSettings
from embedder_client.tracing import Metadata


class BlockingService:
    """A channel to one service."""

    def __init__(self, target: str, settings: ClientSettings) -> None:
        self._connection = open_connection(grpc, target, settings, channel_credentials(target, settings))
        self._ways = OneService(self._connection, attempts=settings.retry_attempts)

    def ways(self) -> Ways:
        """Return the ways of requests."""
        return self._ways

    def close(self) -> None:
        """Close the channel."""
        self._connection.channel.close()


class BlockingReplicas:
    """Channels to several replicas, and the thread that looks after them."""

    def __init__(self, target: str, settings: ClientSettings) -> None:
        """Prepare; nobody is asked yet.

        Raises:
            InvalidRequest: the target names no replicas, or a bearer token would travel in plaintext.
        """
        check_replica_target(target)
        channel_credentials(target, settings)
        replicas = ReplicaSet(lambda address: open_replica(grpc, address, settings), settings.max_load_factor)
        self._keeper = ReplicaKeeper(replicas, target, settings)
        self._ways = Replicated(replicas, attempts=settings.retry_attempts, on_gone=self._keeper.wake)

    def ways(self) -> Ways:
        """Return the ways of requests; the first time, find the replicas and ask them, which takes time."""
        self._keeper.start()
        return self._ways

    def close(self) -> None:
        """Stop looking after the replicas, and close the channels."""
        self._keeper.close()


class Sending:
    """One request on its way: sent, and while that is of use sent again."""

    def __init__(self, rpc: Rpc, request: Any, way: Way, deadline: float, metadata: Metadata) -> None:
        """Take the request; nothing is sent yet.

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
        self._future: Any = None

    def start(self) -> None:
        """Send it without waiting for the answer; whether the channel was closed meanwhile, `answer` finds out."""
        with contextlib.suppress(ValueError):
            self._future = self._send(self._method().future)

    def answer(self) -> Any:
        """Return the answer.

        Raises:
            grpc.RpcError: there is none.
        """
        while True:
            try:
                if self._future is None:
                    return self._send(self._method())
                return self._future.result()
            except (grpc.RpcError, grpc.FutureCancelledError, ValueError) as error:
                wait_s = self._way.wait_s(error, remaining_s=remaining_s(self._deadline))
                if wait_s is None:
                    raise
            self._future = None
            time.sleep(wait_s)

    def end(self) -> None:
        """Give the request up, unless it was answered."""
        if self._future is not None:
            self._future.cancel()
        self._way.end()

    def _method(self) -> Any:
        return self._way.connection.methods[self._rpc]

    def _send(self, method: Any) -> Any:
        return method(on_wire(self._request), timeout=remaining_s(self._deadline), metadata=self._metadata)
