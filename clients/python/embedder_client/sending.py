"""How a request gets to an answer: to one service, or home first and then to the next on the ring."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc

from embedder_client.channel import Connection
from embedder_client.errors import ConnectionFailed, InvalidRequest
from embedder_client.homes import Home, Homes
from embedder_client.plans import EVERYWHERE, ONE_REPLICAS_OWN, Calls
from embedder_client.pushback import wait_before_retry_s
from embedder_client.replicas import Replica, ReplicaSet

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0
_GONE = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})


class Way(Protocol):
    """How one request gets to its answer."""

    @property
    def connection(self) -> Connection:
        """Where it goes now."""

    def wait_s(self, error: BaseException, *, remaining_s: float) -> float | None:
        """Return the seconds until it is to be sent again, maybe elsewhere; None when the error stands.

        Args:
            error: what the call ended with.
            remaining_s: until the caller's deadline.
        """

    def end(self) -> None:
        """Note that there is an answer, or none will come."""


class Ways(Protocol):
    """Knows the way of each request."""

    def homes(self) -> Homes | None:
        """Return where contents are at home; None where there is one service."""

    def way(self, home: Home | None) -> Way:
        """Return the way of a request."""

    def of(self, calls: Calls) -> list[tuple[Any, Way]]:
        """Return requests with their ways; what changes every replica is there once for each."""


class OneService:
    """The way of every request to one service."""

    def __init__(self, connection: Connection, *, attempts: int) -> None:
        self._connection = connection
        self._attempts = attempts

    def homes(self) -> Homes | None:
        """Return None; see `Ways`."""
        return None

    def way(self, home: Home | None) -> Way:
        """Return the way of a request; see `Ways`."""
        return _OneWay(self._connection, self._attempts)

    def of(self, calls: Calls) -> list[tuple[Any, Way]]:
        """Return requests with their ways; see `Ways`."""
        return [(request, self.way(None)) for request in calls.requests]


class _OneWay:
    """Sends an overloaded service the same request again; an unavailable one is retried by gRPC itself."""

    def __init__(self, connection: Connection, attempts: int) -> None:
        self.connection = connection
        self._attempts = attempts
        self._attempt = 1

    def wait_s(self, error: BaseException, *, remaining_s: float) -> float | None:
        if not isinstance(error, grpc.RpcError):
            return None
        wait_s = wait_before_retry_s(error, attempt=self._attempt, attempts=self._attempts, remaining_s=remaining_s)
        self._attempt += 1
        return wait_s

    def end(self) -> None:
        pass


class Replicated:
    """The ways of requests to several replicas."""

    def __init__(self, replicas: ReplicaSet, *, attempts: int, on_gone: Callable[[], None]) -> None:
        """Take the replicas.

        Args:
            replicas: who serves.
            attempts: rounds of all replicas that a request may make; 1 means no retry.
            on_gone: is called when one did not answer.
        """
        self._replicas = replicas
        self._attempts = attempts
        self._on_gone = on_gone

    def homes(self) -> Homes | None:
        """Return where contents are at home; see `Ways`."""
        return self._replicas.homes()

    def way(self, home: Home | None) -> Way:
        """Return the way of a request; see `Ways`.

        Raises:
            ConnectionFailed: no replica is known.
        """
        replica = self._replicas.choose(home)
        if replica is None:
            raise ConnectionFailed("no replica is known")
        return _ReplicaWay(self._replicas, replica, home, self._attempts, self._on_gone)

    def of(self, calls: Calls) -> list[tuple[Any, Way]]:
        """Return requests with their ways; see `Ways`.

        Raises:
            InvalidRequest: replicas have no common answer to this call.
        """
        if calls.rpc in ONE_REPLICAS_OWN:
            raise InvalidRequest(
                f"{calls.rpc} is answered by each replica for itself alone: ask them one by one, each by a Client of its address"
            )
        if calls.rpc in EVERYWHERE:
            return [
                (request, _FixedWay(replica, self._attempts))
                for replica in self._replicas.all()
                for request in calls.requests
            ]
        homes: Sequence[Home | None] = calls.homes or [None] * len(calls.requests)
        return [(request, self.way(home)) for request, home in zip(calls.requests, homes, strict=True)]


class _ReplicaWay:
    """Asks the home; when it is gone, the next on the ring at once; when all were asked, all again after a while."""

    def __init__(
        self, replicas: ReplicaSet, replica: Replica, home: Home | None, attempts: int, on_gone: Callable[[], None]
    ) -> None:
        self._replicas = replicas
        self._home = home
        self._attempts = attempts
        self._on_gone = on_gone
        self._rounds = self._attempt = 1
        self._tried: list[Replica] = []
        self._items = 1 if home is None else home.items
        self._counted = ""
        self._take(replica)

    @property
    def connection(self) -> Connection:
        return self._replica.connection

    def wait_s(self, error: BaseException, *, remaining_s: float) -> float | None:
        if not _is_gone(error):
            assert isinstance(error, grpc.RpcError)
            wait_s = wait_before_retry_s(error, attempt=self._attempt, attempts=self._attempts, remaining_s=remaining_s)
            self._attempt += 1
            return wait_s
        self._replicas.note_gone(self._replica)
        self._on_gone()
        if self._attempts == 1:
            return None
        self._tried.append(self._replica)
        wait_s = 0.0
        following = self._replicas.choose(self._home, self._tried)
        if following is None:
            if self._rounds == self._attempts:
                return None
            wait_s = _back_off_s(self._rounds)
            self._rounds += 1
            self._tried.clear()
            following = self._replicas.choose(self._home)
        if following is None or wait_s >= remaining_s:
            return None
        self.end()
        self._take(following)
        return wait_s

    def end(self) -> None:
        if self._counted:
            self._replicas.note_sent(self._counted, -self._items)
            self._counted = ""

    def _take(self, replica: Replica) -> None:
        self._replica = replica
        self._counted = replica.name
        self._replicas.note_sent(self._counted, self._items)


class _FixedWay:
    """Asks one replica alone: nobody else can answer for it."""

    def __init__(self, replica: Replica, attempts: int) -> None:
        self.connection = replica.connection
        self._attempts = attempts
        self._attempt = 1

    def wait_s(self, error: BaseException, *, remaining_s: float) -> float | None:
        if _is_gone(error):
            wait_s: float | None = _back_off_s(self._attempt) if self._attempt < self._attempts else None
        else:
            assert isinstance(error, grpc.RpcError)
            wait_s = wait_before_retry_s(error, attempt=self._attempt, attempts=self._attempts, remaining_s=remaining_s)
        self._attempt += 1
        return wait_s if wait_s is not None and wait_s < remaining_s else None

    def end(self) -> None:
        pass


def _is_gone(error: BaseException) -> bool:
    """Whether a replica did not answer: another may. What is no RpcError is gRPC's word for a channel that was closed meanwhile."""
    call: Any = error
    return not isinstance(error, grpc.RpcError) or call.code() in _GONE


def _back_off_s(attempt: int) -> float:
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2.0 ** (attempt - 1))
    return longest * random.uniform(0.8, 1.2)


def remaining_s(deadline: float) -> float:
    """Return the time until a deadline by `time.monotonic`, 0 once it has passed."""
    return max(0.0, deadline - time.monotonic())
