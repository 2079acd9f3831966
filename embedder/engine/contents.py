"""What the engine is asked for, and what it answers: the values that cross its border."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedder.errors import EmbedderError
from embedder_client.content_hash import HASH_BYTES, Modality

_NO_HASH = bytes(HASH_BYTES)

HalfVectors = npt.NDArray[np.float16]


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
        payload: the text, the file's bytes, or either prepared already; None when only the hash is known.
        error: why the item can't be served, found while it was read; it fails alone.
    """

    content_hash: bytes
    modality: Modality | None = None
    payload: str | bytes | PreparedContent | None = None
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
    def size(self) -> CallSize:
        """How much the call asks for."""
        texts = [
            len(item.payload)
            for item in self._items
            if item.modality is Modality.TEXT and isinstance(item.payload, str)
        ]
        unknown = sum(item.payload is None for item in self._items)
        return CallSize(texts, len(self._items) - len(texts) - unknown, unknown)

    def __len__(self) -> int:
        """Return how many contents there are."""
        return len(self._items)

    def __getitem__(self, index: int) -> ContentItem:
        """Return one content."""
        return self._items[index]


@dataclass(frozen=True, slots=True)
class EmbedOptions:
    """How a call's contents are embedded.

    Attributes:
        deadline: `time.monotonic()` seconds after which nobody waits for the answer.
        lane: how urgent the work is.
        durable: answer only when every computed vector is committed to the cache.
        task: who the work is for, in the savings ledger.
        client: who asks, in the savings ledger.
    """

    deadline: float
    lane: Lane = Lane.INTERACTIVE
    durable: bool = False
    task: str = ""
    client: str = ""


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
    """

    vectors: HalfVectors
    sources: npt.NDArray[np.uint8]
    failures: Mapping[int, EmbedderError] = field(default_factory=dict)
    timings: CallTimings = field(default_factory=CallTimings)
    device_seconds: float = 0.0
    unshared_seconds: float = 0.0
    batch: BatchShape | None = None

    def count(self, source: Source) -> int:
        """Return how many items came from `source`."""
        return int(np.count_nonzero(self.sources == source))
