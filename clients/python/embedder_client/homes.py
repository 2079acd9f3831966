"""Homes of contents: a call to several replicas is cut by them, and each part goes to its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_client.content_hash import HASH_BYTES
from embedder_client.ring import HashRing

_FREE_ITEMS = 1_024
"""Contents in flight to one replica that never count as crowded: a client's few calls go home, however they fall."""


@dataclass(frozen=True)
class Home:
    """Where a request goes.

    Attributes:
        name: the replica's name.
        key: a content hash; whoever follows it on the ring is asked when the replica is gone.
        items: contents in the request.
    """

    name: str
    key: bytes
    items: int = 1


@dataclass(frozen=True)
class Part:
    """The contents of a call that have one home.

    Attributes:
        name: the replica's name.
        positions: (k,) in the call, ascending.
    """

    name: str
    positions: npt.NDArray[np.intp]


class Homes:
    """The homes of contents as they were when a call began; later changes do not touch it."""

    def __init__(self, ring: HashRing, *, in_flight: Mapping[str, int], load_factor: float) -> None:
        """Take the ring, the contents in flight by replica, and how far one may be over the mean of all."""
        self._ring = ring
        self._in_flight = np.array([in_flight.get(name, 0) for name in ring.names], np.int64)
        self._load_factor = load_factor

    def parts(self, packed: bytes) -> list[Part]:
        """Return the parts of a call, for packed content hashes in the order of asking; none is empty."""
        hashes = np.frombuffer(packed, np.uint8).reshape(-1, HASH_BYTES)
        homes = self._ring.spread(hashes, self._room(len(hashes)))
        order = np.argsort(homes, kind="stable")
        present, starts = np.unique(homes[order], return_index=True)
        return [
            Part(self._ring.names[home], positions)
            for home, positions in zip(present, np.split(order, starts[1:]), strict=True)
        ]

    def of(self, key: bytes, *, items: int = 1) -> Home:
        """Return the home of what is not cut."""
        return Home(self._ring.names[self._ring.followers(key)[0]], key, items)

    def _room(self, items: int) -> npt.NDArray[np.int64]:
        replicas = len(self._ring.names)
        allowed = self._load_factor * (self._in_flight.sum() + items) / replicas
        if not np.isfinite(allowed):
            return np.full(replicas, items, np.int64)
        room: npt.NDArray[np.int64] = max(_FREE_ITEMS, int(np.ceil(allowed))) - self._in_flight
        return room
