"""Asks the cache for a whole shard at once, before anything is tokenized or decoded."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from embedder.backfill.records import ShardRecords, ShardUsage
from embedder.backfill.shard_contents import AskedShard, ShardContents
from embedder.engine.contents import COMPOSITES, CallSize, ContentItem, HalfVectors, PostField, Source
from embedder_cache import CacheTier, SpaceKey
from embedder_client.content_hash import HASH_BYTES, Modality

_NO_HASH = bytes(HASH_BYTES)


class Asker:
    """Looks shards up, one packed read for each. Used by one thread; `settle` may be called by another.

    It remembers what the shards before are computing, so that a content of two shards is computed once.
    """

    def __init__(self, cache: CacheTier | None, space: SpaceKey, *, shared: CacheTier | None = None) -> None:
        """Stand on the tiers.

        Args:
            cache: this machine's tier; None where there is none, and everything is missing.
            space: key range of the vectors.
            shared: a tier that several machines share, asked for what the first lacks.
        """
        self._cache = cache
        self._space = space
        self._shared = shared
        self._computing: dict[bytes, int] = {}

    def ask(self, contents: ShardContents) -> AskedShard:
        """Name a shard's distinct parts, and find out which are held."""
        parts: dict[bytes, int] = {}
        items: list[ContentItem] = []
        row_parts = np.full(len(contents.items), -1, np.int32)
        row_failures: dict[int, str] = {}
        wholes: dict[int, ContentItem] = {}
        hashes: list[bytes] = []
        for row, item in enumerate(contents.items):
            hashes.append(item.content_hash or _NO_HASH)
            if item.error is not None:
                row_failures[row] = str(item.error)
            elif item.modality in COMPOSITES:
                wholes[row] = _without_parts(item, parts, items)
            else:
                row_parts[row] = _part_of(item, parts, items)
        packed = b"".join(parts)
        # Before the look-up: what is not being computed by then, and not held, nobody computes.
        computing = (
            {name: self._computing[name] for name in parts if name in self._computing} if self._computing else {}
        )
        start, asked_at = time.perf_counter(), time.time()
        vectors, sources = self._look_up(packed)
        records = ShardRecords(
            shard=contents.shard,
            ids=contents.ids,
            hashes=b"".join(hashes),
            row_parts=row_parts,
            part_hashes=packed,
            vectors=vectors,
            sources=sources,
            row_failures=row_failures,
            wholes=wholes,
            asked_at=asked_at,
            usage=ShardUsage(
                lookups=len(parts),
                lookup_s=time.perf_counter() - start,
                input_bytes=contents.input_bytes,
                size=_size(contents.items),
            ),
        )
        asked = AskedShard(records)
        for part in np.flatnonzero(sources == 0).tolist():
            item = items[part]
            if item.content_hash in computing:
                asked.in_flight[part] = (computing[item.content_hash], item)
            else:
                self._computing[item.content_hash] = contents.shard.number
                asked.missing[part] = item
        return asked

    def settle(self, asked: AskedShard) -> None:
        """Forget what a shard was computing: it is committed, or has failed."""
        hashes = asked.records.part_hashes
        for part in asked.missing:
            self._computing.pop(hashes[part * HASH_BYTES : (part + 1) * HASH_BYTES], None)

    def ask_again(self, asked: AskedShard) -> dict[int, ContentItem]:
        """Look up what earlier shards were computing, now that they are committed; returns the parts that are still missing."""
        parts = list(asked.in_flight)
        records = asked.records
        hashes = b"".join(records.part_hashes[part * HASH_BYTES : (part + 1) * HASH_BYTES] for part in parts)
        vectors, sources = self._look_up(hashes)
        still: dict[int, ContentItem] = {}
        for row, part in enumerate(parts):
            if sources[row]:
                records.vectors[part], records.sources[part] = vectors[row], Source.IN_FLIGHT
            else:
                still[part] = asked.in_flight[part][1]
        asked.in_flight = {}
        return still

    def _look_up(self, hashes: bytes) -> tuple[HalfVectors, npt.NDArray[np.uint8]]:
        """Read packed hashes; returns vectors, (m, dim), and where each came from, 0 for what is not held."""
        count = len(hashes) // HASH_BYTES
        if self._cache is None:
            vectors, sources = np.zeros((count, self._space.dim), np.float16), np.zeros(count, np.uint8)
        else:
            found = self._cache.get_many(self._space, hashes)
            vectors, sources = found.vectors, found.found.view(np.uint8) * np.uint8(Source.CACHE)
        if self._shared is None or sources.all():
            return vectors, sources
        missing = np.flatnonzero(sources == 0)
        wanted = np.frombuffer(hashes, np.uint8).reshape(-1, HASH_BYTES)[missing]  # (n, 32)
        answer = self._shared.get_many(self._space, wanted.tobytes())
        vectors, sources = vectors.copy(), sources.copy()
        vectors[missing[answer.found]] = answer.vectors[answer.found]
        sources[missing[answer.found]] = Source.SHARED_CACHE
        return vectors, sources


def _size(items: Iterable[ContentItem]) -> CallSize:
    lengths: list[int] = []
    images = 0
    for item in items:
        payload = item.payload
        if isinstance(payload, str):
            lengths.append(len(payload))
        elif isinstance(payload, tuple):
            within = _size(field.item for field in payload)
            lengths += within.text_lengths
            images += within.images
        elif payload is not None:
            images += 1
    return CallSize(lengths, images)


def _part_of(item: ContentItem, parts: dict[bytes, int], items: list[ContentItem]) -> int:
    part = parts.setdefault(item.content_hash, len(items))
    if part == len(items):
        items.append(item)
    return part


def _without_parts(whole: ContentItem, parts: dict[bytes, int], items: list[ContentItem]) -> ContentItem:
    """Take a post's texts and images out as parts, so that it knows them by hash alone; a video stays as it is."""
    if whole.modality is not Modality.POST or not isinstance(whole.payload, tuple):
        return whole
    fields: list[PostField] = []
    for field in whole.payload:
        if field.item.modality is Modality.VIDEO:
            fields.append(field)
            continue
        _part_of(field.item, parts, items)
        fields.append(PostField(field.name, ContentItem(field.item.content_hash)))
    return replace(whole, payload=tuple(fields))
