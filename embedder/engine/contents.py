"""What the engine is asked for, and what it answers: the values that cross its border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from mmap import mmap
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedder.errors import EmbedderError
from embedder.savings.usage import DEFAULT_TENANT
from embedder_client.content_hash import HASH_BYTES, Modality

_NO_HASH = bytes(HASH_BYTES)

HalfVectors = npt.NDArray[np.float16]

COMPOSITES = frozenset({Modality.POST, Modality.VIDEO})
"""What is made of parts that are contents themselves."""


class Lane(IntEnum):
    """How urgent work is; a smaller number is served first."""

    INTERACTIVE = 0
    BULK = 1


class Source(IntEnum):
    """Where an item's vector came from; the numbers are the wire's `ItemSource`."""

    CACHE = 1
    IN_FLIGHT = 2
    COMPUTED = 3
    SHARED_CACHE = 4
    FAILED = 5


@dataclass(frozen=True, slots=True)
class PreparedContent:
    """A content that another process has tokenized or decoded.

    Attributes:
        prepared: token ids, (t,) int32, or pixels, (3, s, s) uint8.
        units: its cost in tokens or images.
        prepare_s: seconds that it took.
    """

    prepared: npt.NDArray[np.int32] | npt.NDArray[np.uint8]
    units: float
    prepare_s: float


@dataclass(slots=True, eq=False)
class ContentItem:
    """One content of a call; never changed once made.

    Not frozen: a call makes hundreds, and freezing a dataclass makes each three times as dear.

    Attributes:
        content_hash: 32 bytes; empty when `error` is set.
        modality: its medium; None when only the hash is known.
        payload: the text, the file's bytes (mapped, where they were too many for memory), the prepared pixels of a video's
            frame, a post's fields, or what another process has prepared; None when only the hash is known.
        error: why the item can't be served, found while it was read; it fails alone.
    """

    content_hash: bytes
    modality: Modality | None = None
    payload: str | bytes | mmap | npt.NDArray[np.uint8] | tuple[PostField, ...] | PreparedContent | None = None
    error: EmbedderError | None = None


@dataclass(frozen=True, slots=True)
class CallSize:
    """How much a call asks for, known without looking at its contents.

    Attributes:
        text_lengths: characters of each text.
        images: how many images.
        unknown: how many contents are known by their hash alone.
    """

    text_lengths: Sequence[int] = ()
    images: int = 0
    unknown: int = 0


class Contents(Protocol):
    """A call's contents: all of them named at once, each made into an item only when it is asked for."""

    @property
    def hashes(self) -> bytes:
        """Content hashes, packed, 32 bytes each; zeros for what can't be named."""
        ...

    @property
    def size(self) -> CallSize:
        """How much the call asks for."""
        ...

    @property
    def has_composites(self) -> bool:
        """Whether any is made of parts: a post, or a video."""
        ...

    def __len__(self) -> int:
        """Return how many contents there are."""
        ...

    def __getitem__(self, index: int, /) -> ContentItem:
        """Return one content."""
        ...


class ItemContents:
    """Contents that are items already."""

    def __init__(self, items: Sequence[ContentItem]) -> None:
        self._items = items

    @property
    def hashes(self) -> bytes:
        """Content hashes, packed, 32 bytes each; zeros for what can't be named."""
        return b"".join([item.content_hash or _NO_HASH for item in self._items])

    @property
    def named_hashes(self) -> bytes:
        """The hashes of what can be named, packed."""
        return b"".join([item.content_hash for item in self._items])

    @property
    def size(self) -> CallSize:
        """How much the call asks for."""
        texts = [
            len(item.payload)
            for item in self._items
            if item.modality is Modality.TEXT and isinstance(item.payload, str)
        ]
        unknown = sum(item.payload is None for item in self._items)
        return CallSize(texts, len(self._items) - len(texts) - unknown, unknown)

    @property
    def has_composites(self) -> bool:
        """Whether any is made of parts: a post, or a video."""
        return any(item.modality in COMPOSITES for item in self._items)

    def __len__(self) -> int:
        """Return how many contents there are."""
        return len(self._items)

    def __getitem__(self, index: int) -> ContentItem:
        """Return one content."""
        return self._items[index]


@dataclass(frozen=True, slots=True)
class PostField:
    """One named field of a post.

    Attributes:
        name: unique within the post.
        item: the field's content; no post.
    """

    name: str
    item: ContentItem


@dataclass(frozen=True, slots=True)
class CompositeOptions:
    """How a call's posts are fused, and what it wants of its videos.

    Attributes:
        fusion: `mean`, or a trained fusion such as `topic@2`; empty means the service's setting.
        field_weights: weights of a mean by field name, for this call alone; None means the service's setting.
        segment_s: length of the segments whose vectors are wanted; 0 means the service's setting, None wants none.
    """

    fusion: str = ""
    field_weights: Mapping[str, float] | None = None
    segment_s: float | None = None


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How a call's contents are embedded.

    Attributes:
        deadline: `time.monotonic()` seconds after which nobody waits for the answer.
        lane: how urgent the work is.
        durable: answer only when every computed vector is committed to the cache.
        task: who the work is for, in the savings ledger.
        client: who asks, in the savings ledger.
        tenant: who is charged, in the savings ledger.
        head: the heads or the index that the work is for, in the savings ledger; empty for vectors alone.
        composite: what concerns posts and videos.
        traceparent: where the call's trace goes on, by W3C Trace Context; empty for a call that is not traced. Where a front-end asks
            an engine for several calls at once, those of all of them, with spaces between.
    """

    deadline: float
    lane: Lane = Lane.INTERACTIVE
    durable: bool = False
    task: str = ""
    client: str = ""
    tenant: str = DEFAULT_TENANT
    head: str = ""
    composite: CompositeOptions = CompositeOptions()
    traceparent: str = ""


@dataclass(slots=True)
class CallTimings:
    """Seconds of one call by part; parts of different items overlap."""

    lookup_s: float = 0.0
    queue_s: float = 0.0
    prepare_s: float = 0.0
    encode_s: float = 0.0
    store_s: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchShape:
    """One batch on the device.

    Attributes:
        items: contents in it, of any call.
        units: their tokens, or images.
        padded_units: what the device worked on to encode them, padding included.
    """

    items: int
    units: float
    padded_units: float


@dataclass(frozen=True, slots=True)
class DeviceUsage:
    """What the device spent on some contents.

    Attributes:
        device_s: seconds of the device; on a processor, CPU seconds of all cores together.
        wall_s: wall seconds.
        joules: energy above idle; 0 where it is not metered.
    """

    device_s: float
    wall_s: float = 0.0
    joules: float = 0.0


@dataclass(frozen=True, slots=True)
class Segments:
    """The vectors of one video's segments, which follow each other.

    Attributes:
        start_s: (k,) float64, seconds from the first frame; inclusive.
        end_s: (k,) float64; exclusive.
        vectors: (k, dim) float16 of L2 norm 1.
    """

    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    vectors: HalfVectors


@dataclass(frozen=True, slots=True)
class Counted:
    """What a call counts as in the savings ledger: the parts of its posts and videos in place of those that were made from them.

    Attributes:
        sources: (n,) uint8 of `Source`.
        hashes: content hashes, packed, of those that have one.
    """

    sources: npt.NDArray[np.uint8]
    hashes: bytes


@dataclass(frozen=True, slots=True)
class EmbedOutcome:
    """The answer to one call.

    Attributes:
        vectors: (n, dim) float16 of L2 norm 1 in the order of asking; rows of failed items are zero.
        sources: (n,) uint8 of `Source`.
        failures: index of each failed item to the reason.
        timings: how the call's time was spent.
        device_seconds: device time of what was computed for this call.
        unshared_seconds: device time had every item been encoded for this call, estimated.
        batch: the last batch that computed something this call waited for; None without one.
        segments: index of each video to its segments, where they were wanted.
        counted: what the ledger counts; None where that is the items themselves.
    """

    vectors: HalfVectors
    sources: npt.NDArray[np.uint8]
    failures: Mapping[int, EmbedderError] = field(default_factory=dict)
    timings: CallTimings = field(default_factory=CallTimings)
    device_seconds: float = 0.0
    unshared_seconds: float = 0.0
    batch: BatchShape | None = None
    segments: Mapping[int, Segments] = field(default_factory=dict)
    counted: Counted | None = None

    def count(self, source: Source) -> int:
        """Return how many contents, as the ledger counts them, came from `source`."""
        return int(np.count_nonzero(self.counted_sources == source))

    @property
    def counted_sources(self) -> npt.NDArray[np.uint8]:
        """(n,) uint8 of `Source`, for each content that the ledger counts."""
        return self.sources if self.counted is None else self.counted.sources
