"""Keeps in this process's cache what an executor on other machines computed, and counts every shard in the savings ledger."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np

from embedder.backfill.local_space import LocalSpace
from embedder.backfill.records import ShardRecords
from embedder.backfill.settled_shard import SettledShard
from embedder.engine.contents import CallTimings, DeviceUsage, EmbedOutcome, Source
from embedder_cache import CacheBackpressure
from embedder_client.content_hash import HASH_BYTES

_PUT_ROWS = 4_096


class LocalKeeper:
    """See `embedder.backfill.coordinator.RecordKeeper`."""

    def __init__(self, space: LocalSpace) -> None:
        self._space = space
        self._mean_encode_s = space.mean_encode_s()

    def keep(self, records: ShardRecords) -> list[Future[None]]:
        """Begin to commit what this cache lacks: from a shared tier, and what an executor computed and did not store itself."""
        fetched = [Source.SHARED_CACHE]
        if records.stored is None:
            fetched.append(Source.COMPUTED)
            usage = records.usage
            spent = DeviceUsage(usage.device_s, usage.wall_s, usage.joules)
            self._space.account.record_encodes(self._space.options, encodes=usage.encodes, usage=spent)
        parts = np.flatnonzero(np.isin(records.sources, fetched))
        hashes = np.frombuffer(records.part_hashes, np.uint8).reshape(-1, HASH_BYTES)  # (m, 32)
        return [
            self._put(hashes[some].tobytes(), records.vectors[some], records.asked_at)
            for some in np.split(parts, range(_PUT_ROWS, len(parts), _PUT_ROWS))
            if len(some)
        ]

    def count(self, records: ShardRecords, settled: SettledShard) -> None:
        """Count the shard's rows with where each was answered; what was computed is counted as it happens."""
        usage = records.usage
        # Where no encoder was loaded, by what an encode took in this space so far.
        unshared_s = self._space.estimate(usage.size) or self._mean_encode_s * int(settled.rows.has_vector.sum())
        outcome = EmbedOutcome(
            vectors=settled.rows.vectors,
            sources=settled.sources,
            timings=CallTimings(lookup_s=usage.lookup_s),
            unshared_seconds=unshared_s,
        )
        named = settled.rows.hashes[settled.rows.hashes.any(axis=1)]
        self._space.account.record_answers(self._space.options, outcome, named.tobytes())

    def _put(self, hashes: bytes, vectors: np.ndarray, asked_at: float) -> Future[None]:
        cache, key = self._space.cache, self._space.key
        try:
            return cache.put_many(key, hashes, vectors, asked_at=asked_at)
        except CacheBackpressure:
            cache.flush()
            return cache.put_many(key, hashes, vectors, asked_at=asked_at)
