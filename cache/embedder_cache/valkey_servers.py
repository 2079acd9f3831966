"""Which server of the shared tier holds a name: the one there is, or a node of a Valkey cluster."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheRequestError, TierUnavailable
from embedder_cache.valkey_node import ValkeyNode
from embedder_cache.valkey_settings import ValkeySettings

_log = logging.getLogger(__name__)

_CLUSTER = "+cluster://"
_SLOTS = 16_384
_MIN_LOOK_INTERVAL_S = 1.0

Rows = npt.NDArray[np.intp]


class ValkeyServers(Protocol):
    """Knows the servers, and which of them holds a name."""

    def nodes(self) -> Sequence[ValkeyNode]:
        """Return every server that is known and holds something."""

    def place(self, names: Sequence[bytes]) -> list[tuple[ValkeyNode, Rows]]:
        """Return the servers that hold these names, each with the positions of its names; what none holds is left out."""

    def look(self, *, patiently: bool = False) -> None:
        """Look again who holds what, unless that was just done; takes time.

        Raises:
            TierUnavailable: no server answers.
        """

    def close(self) -> None:
        """Close the connections."""


def open_servers(settings: ValkeySettings) -> ValkeyServers:
    """Prepare the connections that a URL names; nobody need be there.

    Raises:
        CacheRequestError: the URL can't be read.
        ImportError: the `redis` package is missing.
    """
    if _CLUSTER in settings.url:
        return Cluster(settings)
    if "," in settings.url.partition("://")[2].partition("/")[0] and not settings.url.startswith("unix:"):
        raise CacheRequestError(
            "the URL of the shared tier names several servers: of a Valkey cluster, say valkey+cluster://host:port,host:port"
        )
    return SingleServer(ValkeyNode(settings.url, settings))


class SingleServer:
    """One server that holds everything."""

    def __init__(self, node: ValkeyNode) -> None:
        self._node = node

    def nodes(self) -> Sequence[ValkeyNode]:
        """Return the one; see `ValkeyServers`."""
        return [self._node]

    def place(self, names: Sequence[bytes]) -> list[tuple[ValkeyNode, Rows]]:
        """Return the one with every name; see `ValkeyServers`."""
        return [(self._node, np.arange(len(names)))] if names else []

    def look(self, *, patiently: bool = False) -> None:
        """Do nothing; see `ValkeyServers`."""

    def close(self) -> None:
        """Close the connections."""
        self._node.close()


class Cluster:
    """The primaries of a Valkey cluster, by the slots that they hold. Thread-safe.

    A dead node costs its own keys: the others' are found as before, and its slots go to a replica of it once the cluster promoted one.
    """

    def __init__(self, settings: ValkeySettings) -> None:
        self._settings = settings
        self._scheme, self._credentials, hosts = _read_url(settings.url)
        self._seeds = [self._node(host) for host in hosts]
        self._held: dict[str, ValkeyNode] = {}
        self._owner_of_slot: npt.NDArray[np.object_] = np.full(_SLOTS, None)
        self._lock = threading.Lock()
        self._looked_at = -_MIN_LOOK_INTERVAL_S

    def nodes(self) -> Sequence[ValkeyNode]:
        """Return the primaries; see `ValkeyServers`."""
        return list(self._held.values())

    def place(self, names: Sequence[bytes]) -> list[tuple[ValkeyNode, Rows]]:
        """Return the primaries that hold these names; see `ValkeyServers`."""
        from redis.crc import key_slot

        owners = self._owner_of_slot
        rows: dict[ValkeyNode, list[int]] = {}
        for row, name in enumerate(names):
            node = owners[key_slot(name)]
            if node is not None:
                rows.setdefault(node, []).append(row)
        return [(node, np.array(positions)) for node, positions in rows.items()]

    def look(self, *, patiently: bool = False) -> None:
        """Ask the nodes, those that answered lately first, who holds which slots; see `ValkeyServers`."""
        with self._lock:
            if not patiently and time.monotonic() - self._looked_at < _MIN_LOOK_INTERVAL_S:
                return
            self._looked_at = time.monotonic()
            errors = []
            known = sorted([*self._held.values(), *self._seeds], key=lambda node: node.breaker.is_open)
            for node in known:
                try:
                    ask = node.ask_patiently if patiently else node.ask
                    self._take(ask(_slots_of), node)
                except TierUnavailable as error:
                    errors.append(error)
                else:
                    return
        raise TierUnavailable(f"no node of the shared tier's cluster says who holds what: {errors[-1]}")

    def _take(self, slots: Sequence[tuple[int, int, str]], asked: ValkeyNode) -> None:
        """Take the ranges of slots and the primary of each; one without a host is the node that was asked, or beside it."""
        owners: npt.NDArray[np.object_] = np.full(_SLOTS, None)
        held: dict[str, ValkeyNode] = {}
        for first, last, named in slots:
            address = f"{asked.host}{named}" if named.startswith(":") else named
            node = held.get(address) or self._held.get(address) or self._node(address)
            node.slot_tag = _tag_of(range(first, last + 1))
            held[address] = node
            owners[first : last + 1] = node
        if not held:
            raise TierUnavailable("the node is in no cluster, or its cluster has no slots")
        # Nodes that hold nothing any more are kept open: a thread may be asking them.
        self._seeds += [node for address, node in self._held.items() if address not in held]
        self._held, self._owner_of_slot = held, owners

    def _node(self, address: str) -> ValkeyNode:
        return ValkeyNode(f"{self._scheme}://{self._credentials}{address}", self._settings)

    def close(self) -> None:
        """Close the connections."""
        for node in {*self._held.values(), *self._seeds}:
            node.close()


def _slots_of(client: Any) -> list[tuple[int, int, str]]:
    """Ask a node for the ranges of slots, each with its first, its last and the address of its primary."""
    ranges = client.execute_command("CLUSTER SLOTS")
    return [
        (int(first), int(last), _address(primary[0] or b"", int(primary[1]))) for first, last, primary, *_ in ranges
    ]


def _address(host: bytes, port: int) -> str:
    name = host.decode()
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _read_url(url: str) -> tuple[str, str, list[str]]:
    """Read scheme, credentials with their `@`, and the addresses of a cluster's URL."""
    scheme, _, rest = url.partition(_CLUSTER)
    authority, slash, path = rest.partition("/")
    credentials, at, hosts = authority.rpartition("@")
    addresses = [host.strip() for host in hosts.split(",")]
    if scheme not in {"valkey", "valkeys", "redis", "rediss"} or path.strip("/") not in {"", "0"}:
        raise CacheRequestError(
            f"the URL of the shared tier can't be read: a cluster is valkey+cluster://host:port,host:port, without a database; "
            f"given was {scheme}{_CLUSTER}...{slash}{path}"
        )
    for address in addresses:
        try:
            is_read = bool(urlsplit(f"//{address}").hostname and urlsplit(f"//{address}").port)
        except ValueError:
            is_read = False
        if not is_read:
            raise CacheRequestError(f"the URL of the shared tier can't be read: {address!r} is no host:port")
    return scheme, credentials + at, addresses


def _tag_of(slots: Iterable[int]) -> str:
    """Return a text whose slot is among these."""
    from redis.crc import key_slot

    wanted = set(slots)
    return next(str(number) for number in range(1_000_000) if key_slot(str(number).encode()) in wanted)
