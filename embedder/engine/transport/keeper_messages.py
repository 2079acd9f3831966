"""What the keeper and its clients tell each other; every request has a number, which its reply bears."""

from __future__ import annotations

from enum import Enum

from embedder_cache import SpaceKey
from embedder_cache.key import PREFIX_BYTES


class KeeperKind(bytes, Enum):
    """The first frame of a message."""

    HELLO = b"H"  # client: asks for nothing, makes itself known
    PUT = b"P"  # client: vectors to store
    DELETE = b"D"  # client: contents to erase
    USAGE = b"U"  # client: usage for the ledger, and what it counted of the cache
    METER = b"M"  # client: what measures its device, and that device's power at rest
    SYNC = b"Y"  # client: let the ledger hold everything that anybody recorded
    COUNTS = b"C"  # client: what it has counted, for the metrics
    ALL_COUNTS = b"A"  # client: what have the others counted?
    FLUSH = b"Q"  # keeper: send your usage now
    REPLY = b"R"  # keeper: how a request ended


def pack_space(space: SpaceKey) -> bytes:
    """Write a space's key."""
    return space.prefix + space.dim.to_bytes(4, "little")


def unpack_space(packed: bytes) -> SpaceKey:
    """Read what `pack_space` wrote."""
    return SpaceKey(packed[:PREFIX_BYTES], int.from_bytes(packed[PREFIX_BYTES:], "little"))
