"""A shard on its way: read, asked for in the cache, prepared for the device. Plain values that travel between processes."""

from __future__ import annotations

from dataclasses import dataclass, field

from embedder.backfill.records import ShardRecords
from embedder.backfill.shard import Shard
from embedder.engine.contents import ContentItem
from embedder.engine.forward import Prepared
from embedder_client.content_hash import Modality


@dataclass(slots=True, eq=False)
class ShardContents:
    """A shard as it was read: every row by its id and its content, which carries an error where it could not be read.

    Attributes:
        shard: the shard.
        ids: (rows) the rows' ids.
        items: (rows) their contents.
        input_bytes: bytes of the contents.
    """

    shard: Shard
    ids: list[str]
    items: list[ContentItem]
    input_bytes: int = 0


@dataclass(slots=True, eq=False)
class AskedShard:
    """A shard that the cache was asked for.

    Attributes:
        records: its records, in which what is held stands already.
        missing: the parts that must be computed, by part.
        in_flight: the parts that an earlier shard computes just now, by part, with the shard's number.
    """

    records: ShardRecords
    missing: dict[int, ContentItem] = field(default_factory=dict)
    in_flight: dict[int, tuple[int, ContentItem]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class PreparedPart:
    """One part, ready for the device.

    Attributes:
        part: which of the shard's.
        modality: text or image.
        prepared: token ids, (t,) int32, or pixels, (3, s, s) uint8.
        units: its cost in tokens or images.
        text_bytes: length of a text in characters; 0 for an image.
    """

    part: int
    modality: Modality
    prepared: Prepared
    units: float
    text_bytes: int = 0


@dataclass(slots=True, eq=False)
class PreparedShard:
    """A shard whose missing parts are tokenized and decoded; those that could not be have failed in its records.

    Attributes:
        asked: the shard; what is missing stands there no more.
        parts: what is to be encoded, in no order.
    """

    asked: AskedShard
    parts: list[PreparedPart]
