"""The replicas of a service as one client sees them: who serves, who is whose home, and who is next."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from embedder_client.channel import Connection
from embedder_client.homes import Home, Homes
from embedder_client.replica_addresses import ReplicaAddress
from embedder_client.ring import HashRing

_MISSED_CHECKS = 2
"""Health checks in a row that may be left unanswered; then the connection is taken for dead, and its calls go elsewhere."""


@dataclass(eq=False)
class Replica:
    """One replica, connected.

    Attributes:
        address: where it listens.
        connection: the channel to it; calls hold on to the replica, so that a new channel is a new `Replica`.
        name: its place on the ring: its cache's id once it told it, its address before.
        is_named: whether it told it.
        is_serving: whether it answers, as far as is known.
        missed_checks: health checks in a row that it left unanswered.
    """

    address: ReplicaAddress
    connection: Connection
    name: str = ""
    is_named: bool = False
    is_serving: bool = False
    missed_checks: int = 0

    def __post_init__(self) -> None:
        self.name = self.name or self.address.target


@dataclass
class ReplicaSet:
    """What is known of the replicas. Thread-safe; asks nobody anything, whoever probes them tells it.

    Attributes:
        open: connects to an address, without waiting.
        load_factor: how far a replica may be over the mean of what this client has in flight.
    """

    open: Callable[[ReplicaAddress], Connection]
    load_factor: float
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _replicas: dict[ReplicaAddress, Replica] = field(default_factory=dict)
    _in_flight: Counter[str] = field(default_factory=Counter)
    _rings: dict[tuple[str, ...], HashRing] = field(default_factory=dict)

    def all(self) -> list[Replica]:
        """Return every replica that is known."""
        with self._lock:
            return list(self._replicas.values())

    def set_addresses(self, addresses: Iterable[ReplicaAddress]) -> list[Connection]:
        """Take the addresses that there are now; returns the connections of those that are gone, to be closed."""
        wanted = set(addresses)
        with self._lock:
            for address in wanted - self._replicas.keys():
                self._replicas[address] = Replica(address, self.open(address))
            return [self._replicas.pop(address).connection for address in self._replicas.keys() - wanted]

    def note_serving(self, replica: Replica, cache_id: str | None) -> None:
        """Take a replica into the ring, under its cache's id where it told it; None leaves the name that it has."""
        with self._lock:
            replica.missed_checks = 0
            if cache_id is not None:
                is_taken = any(
                    other.name == cache_id for other in self._replicas.values() if other.address != replica.address
                )
                # A copied cache brings its id with it: two replicas of one name would both be half a home.
                replica.name = replica.address.target if is_taken or not cache_id else cache_id
                replica.is_named = True
            replica.is_serving = True

    def note_gone(self, replica: Replica) -> None:
        """Take a replica out of the ring until it serves again: it may then be another one at the same address."""
        with self._lock:
            replica.is_serving = replica.is_named = False

    def note_missed_check(self, replica: Replica) -> Connection | None:
        """Note a health check without an answer; returns the connection to close if it is now taken for dead."""
        with self._lock:
            replica.missed_checks += 1
            if replica.missed_checks < _MISSED_CHECKS or self._replicas.get(replica.address) is not replica:
                return None
            replica.is_serving = False
            self._replicas[replica.address] = Replica(replica.address, self.open(replica.address), replica.name)
            return replica.connection

    def homes(self) -> Homes:
        """Return where contents are at home now."""
        with self._lock:
            return Homes(self._ring(), in_flight=self._in_flight, load_factor=self.load_factor)

    def choose(self, home: Home | None, passed_over: Iterable[Replica] = ()) -> Replica | None:
        """Return who is to be asked: the home, else who follows on the ring; None if all were passed over.

        Args:
            home: where the request goes; None: anywhere, the least busy one first.
            passed_over: replicas that have been tried.
        """
        tried = {replica.address for replica in passed_over}
        with self._lock:
            if not self._replicas:
                return None
            ring = self._ring()
            serving = {replica.name: replica for replica in self._on_ring() if replica.address not in tried}
            if home is None:
                names = sorted(serving, key=lambda name: self._in_flight[name])
            else:
                names = [home.name, *(ring.names[place] for place in ring.followers(home.key))]
            return next((serving[name] for name in names if name in serving), None)

    def note_sent(self, name: str, items: int) -> None:
        """Count contents that are on their way to a replica; a negative number counts them off again."""
        with self._lock:
            self._in_flight[name] += items
            if not self._in_flight[name]:
                del self._in_flight[name]

    def close(self) -> list[Connection]:
        """Forget every replica; returns the connections, to be closed."""
        return self.set_addresses([])

    def _on_ring(self) -> list[Replica]:
        serving = [replica for replica in self._replicas.values() if replica.is_serving]
        return serving or list(self._replicas.values())  # none serves: any may be the first to come back

    def _ring(self) -> HashRing:
        names = tuple(sorted(replica.name for replica in self._on_ring()))
        if names not in self._rings:
            if len(self._rings) >= 8:
                self._rings.clear()
            self._rings[names] = HashRing(names)
        return self._rings[names]
