"""Posts and videos: made by the service's own engine of parts that are in the cache by then, so that a post costs no encode here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embedder.backfill.local_space import LocalSpace
from embedder.backfill.records import ShardRecords
from embedder.engine.contents import ContentItem, EmbedOutcome, HalfVectors, Source
from embedder.errors import Overloaded


@dataclass(frozen=True, slots=True, eq=False)
class MadeWholes:
    """What became of a shard's posts and videos.

    Attributes:
        rows: the rows that they are, within the shard.
        vectors: (w, dim) float16; zeros for one that failed.
        sources: (w,) uint8 of `Source`.
        failures: why some failed, by place in `rows`, in words.
        encodes: frames that were encoded for them.
        device_s: device seconds of those.
    """

    rows: list[int]
    vectors: HalfVectors
    sources: np.ndarray
    failures: Mapping[int, str]
    encodes: int = 0
    device_s: float = 0.0


class WholeMaker(Protocol):
    """Makes posts and videos."""

    def make(self, records: ShardRecords) -> MadeWholes:
        """Make a shard's wholes; its parts are committed."""
        ...


class LocalWholes:
    """Makes wholes with this process's engine."""

    def __init__(self, space: LocalSpace) -> None:
        self._space = space

    def make(self, records: ShardRecords) -> MadeWholes:
        """Make a shard's wholes; a post one of whose parts failed fails with that part's reason."""
        rows = list(records.wholes)
        failed = {
            records.part_hashes[32 * part : 32 * part + 32]: reason for part, reason in records.part_failures.items()
        }
        failures: dict[int, str] = {}
        items: list[ContentItem] = []
        places: list[int] = []
        for place, row in enumerate(rows):
            item = records.wholes[row]
            reason = _failed_part(item, failed)
            if reason:
                failures[place] = reason
            else:
                items.append(item)
                places.append(place)
        vectors = np.zeros((len(rows), self._space.pinned.dim), np.float16)
        sources = np.full(len(rows), Source.FAILED, np.uint8)
        encodes, device_s = 0, 0.0
        if items:
            outcome = self._embed(items)
            vectors[places], sources[places] = outcome.vectors, outcome.sources
            failures |= {places[index]: str(error) for index, error in outcome.failures.items()}
            encodes, device_s = outcome.count(Source.COMPUTED), outcome.device_seconds
        return MadeWholes(rows, vectors, sources, failures, encodes, device_s)

    def _embed(self, items: list[ContentItem]) -> EmbedOutcome:
        """Embed wholes; where the engine takes no more videos at once, half of them at a time."""
        try:
            return self._space.composite().embed(items, self._space.options)
        except Overloaded:
            if len(items) == 1:
                raise
        half = len(items) // 2
        first, second = self._embed(items[:half]), self._embed(items[half:])
        return EmbedOutcome(
            vectors=np.concatenate([first.vectors, second.vectors]),
            sources=np.concatenate([first.sources, second.sources]),
            failures={**first.failures, **{half + index: error for index, error in second.failures.items()}},
            device_seconds=first.device_seconds + second.device_seconds,
        )


def _failed_part(item: ContentItem, failed: Mapping[bytes, str]) -> str:
    if not isinstance(item.payload, tuple):
        return ""
    return next(
        (
            f"field {field.name!r}: {failed[field.item.content_hash]}"
            for field in item.payload
            if field.item.content_hash in failed
        ),
        "",
    )
