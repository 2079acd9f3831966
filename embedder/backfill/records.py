"""What a shard came to: its rows by name, the vectors of their parts, and what it cost. Plain values that travel between machines."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from embedder.backfill.shard import Shard
from embedder.engine.contents import CallSize, ContentItem, HalfVectors


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that has no vector, and why.

    Attributes:
        shard: the shard's number.
        row: the row's number in the whole job, from 0.
        id: the row's id.
        reason: why, in words.
    """

    shard: int
    row: int
    id: str
    reason: str


@dataclass(slots=True)
class ShardUsage:
    """What a shard took.

    Attributes:
        encodes: parts that the device computed.
        device_s: device seconds of them; on a processor, CPU seconds of all cores together.
        wall_s: wall seconds of them.
        joules: energy above idle; 0 where it is not metered.
        lookups: parts and wholes that the cache was asked for.
        lookup_s: wall seconds of asking.
        input_bytes: bytes of the contents that were read.
        size: how much was asked for: what the rows would have cost, had each been encoded.
    """

    encodes: int = 0
    device_s: float = 0.0
    wall_s: float = 0.0
    joules: float = 0.0
    lookups: int = 0
    lookup_s: float = 0.0
    input_bytes: int = 0
    size: CallSize = field(default_factory=CallSize)


@dataclass(slots=True, eq=False)
class ShardRecords:
    """What a shard came to.

    A *part* is a text or an image, each distinct one of the shard once, in the order of its first appearance. A row is a part
    itself, or a whole (a post, a video), which is made of parts once these are in the cache.

    Attributes:
        shard: the shard.
        ids: (rows) the rows' ids.
        hashes: the rows' content hashes, packed, 32 bytes each; zeros for a row that could not be read.
        row_parts: (rows,) int32, the part that each row is; -1 for a whole, and for a row that could not be read.
        part_hashes: (m * 32) content hashes of the parts, packed.
        vectors: (m, dim) float16 of L2 norm 1; zeros for a part that failed.
        sources: (m,) uint8 of `Source`.
        part_failures: why parts failed, by part, in words.
        row_failures: why rows could not be read, by row within the shard, in words.
        wholes: posts and videos by row within the shard; a post's fields are known by hash.
        asked_at: when the cache was asked, seconds since 1970; what was erased since is not stored.
        usage: what it took.
        stored: commits of the computed parts that are under way; None asks the receiver to store them.
    """

    shard: Shard
    ids: list[str]
    hashes: bytes
    row_parts: npt.NDArray[np.int32]
    part_hashes: bytes
    vectors: HalfVectors
    sources: npt.NDArray[np.uint8]
    part_failures: dict[int, str] = field(default_factory=dict)
    row_failures: dict[int, str] = field(default_factory=dict)
    wholes: Mapping[int, ContentItem] = field(default_factory=dict)
    asked_at: float = 0.0
    usage: ShardUsage = field(default_factory=ShardUsage)
    stored: list[Future[None]] | None = None
