"""What Embed and Lookup answer: vectors, where each came from, and which items failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_client.errors import ItemFailed, ItemsFailed
from embedder_client.figures import Cost, Provenance
from embedder_client.vectors import Dtype, PackedVectors


class ItemSource(StrEnum):
    """Where an item's vector came from."""

    CACHE = "cache"
    IN_FLIGHT = "in_flight"
    COMPUTED = "computed"
    SHARED_CACHE = "shared_cache"
    FAILED = "failed"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True)
class ItemFailure:
    """Why one item of a batch failed; `index` is its position in the call, from 0."""

    index: int
    code: str
    """Name of the gRPC status code, such as "INVALID_ARGUMENT"."""
    reason: str
    """The error's constant name, such as "CONTENT_NOT_CACHED"."""
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False, kw_only=True)
class BatchResult:
    """What every answer to a batch says.

    Attributes:
        sources: where each item's vector came from, one for each item.
        failures: the failed items, in the order of asking.
        provenance: which model made the vectors.
        cost: what the call cost.
    """

    sources: list[ItemSource]
    failures: list[ItemFailure]
    provenance: Provenance
    cost: Cost

    def __len__(self) -> int:
        return len(self.sources)

    def raise_for_failures(self) -> None:
        """Do nothing if every item succeeded.

        Raises:
            ItemsFailed: an exception group with one `ItemFailed` for each failed item.
        """
        if self.failures:
            message = f"{len(self.failures)} of {len(self.sources)} items failed, the first: {self.failures[0].message}"
            raise ItemsFailed(message, [ItemFailed(failure) for failure in self.failures])


class WithVectors:
    """Reads the vectors of a result that carries `packed`."""

    packed: PackedVectors

    @property
    def vectors(self) -> npt.NDArray[Any]:
        """The matrix as asked; may be read-only.

        (n, dim) float16, float32 or int8; (n, ceil(dim / 8)) uint8 for binary.
        """
        return self.packed.stored

    @property
    def scales(self) -> npt.NDArray[np.float32] | None:
        """(n,) float32 for int8: multiply a row by its scale; None for other dtypes."""
        return self.packed.scales

    @property
    def dtype(self) -> Dtype:
        """How the numbers are stored."""
        return self.packed.dtype

    @property
    def dim(self) -> int:
        """Dimensions of a vector, before packing."""
        return self.packed.dim

    def float32(self) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32, unpacked from whatever dtype travelled; see `PackedVectors.float32`."""
        return self.packed.float32()


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoSegments(WithVectors):
    """The segments of one video, in the order of time: one row for each.

    Attributes:
        start_s: (k,) float64, seconds from the first frame; inclusive.
        end_s: (k,) float64; exclusive.
    """

    packed: PackedVectors
    start_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.start_s)


@dataclass(frozen=True, eq=False, kw_only=True)
class EmbedResult(BatchResult, WithVectors):
    """The vectors of a batch, one row for each content in the order of asking; rows of failed items are zero.

    Attributes:
        segments: the segments of each video by its position, where `segment_seconds` asked for them.
        additional: the answers of `additional_spaces`, in their order; never compare vectors of two spaces.
    """

    packed: PackedVectors
    segments: Mapping[int, VideoSegments] = field(default_factory=dict)
    additional: Sequence[EmbedResult] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class LookupResult(WithVectors):
    """The vectors that are held, one row for each hash; rows of contents that are not held are zero.

    Attributes:
        wanted: positions of the contents that are not held: embed these.
        additional: what the `additional_spaces` hold, in their order.
    """

    packed: PackedVectors
    wanted: list[int]
    provenance: Provenance
    cost: Cost
    additional: Sequence[LookupResult] = ()

    def __len__(self) -> int:
        return len(self.packed.stored)

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """(n,) bool: which hashes are held."""
        held = np.ones(len(self), np.bool_)
        held[self.wanted] = False
        return held


def shift_failures(parts: Sequence[Sequence[ItemFailure]], sizes: Sequence[int]) -> list[ItemFailure]:
    """Join the failures of a call's parts, their positions moved to the whole call.

    Args:
        parts: each part's failures, by position in the part.
        sizes: each part's number of items.
    """
    shifted: list[ItemFailure] = []
    start = 0
    for failures, size in zip(parts, sizes, strict=True):
        shifted += [move_failure(failure, start + failure.index) for failure in failures]
        start += size
    return shifted


def move_failure(failure: ItemFailure, index: int) -> ItemFailure:
    """Return the same failure at another position."""
    return ItemFailure(index, failure.code, failure.reason, failure.message, failure.metadata)
