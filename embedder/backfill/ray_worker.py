"""What one Ray actor does: prepares and encodes shards with an encoder of its own; runs on any node, and writes to no cache's files."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass

from embedder.backfill.encoding import ComputedBatch, ShardEncoder
from embedder.backfill.pinned_space import PinnedSpace
from embedder.backfill.preparing import ShardPreparer
from embedder.backfill.records import ShardRecords
from embedder.backfill.shard_contents import AskedShard
from embedder.config import ServeSettings
from embedder.server.parts import media_limits, open_shared_cache, start_decoder
from embedder_cache import CacheBackpressure, SpaceKey
from embedder_client.content_hash import Modality


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """What a worker is told; travels to other machines.

    Attributes:
        settings: the service's settings, with this worker's own device and threads.
        pinned: the space that its encoder must be of.
        key: key range of the vectors, for the shared tier.
        max_batch_units: the budget of one batch by medium, the same for every worker: the bits of a vector hang on its batch.
    """

    settings: ServeSettings
    pinned: PinnedSpace
    key: SpaceKey
    max_batch_units: Mapping[Modality, float]


class RayWorker:
    """Prepares and encodes one shard after the other."""

    def __init__(self, plan: WorkerPlan) -> None:
        """Load the encoder, which takes seconds.

        Raises:
            ConfigurationError: it can't be loaded here, or it is of another space.
        """
        from embedder.server.encoder_opening import open_encoder
        from embedder.server.metering import open_meter

        self._plan = plan
        self._stack = ExitStack()
        settings = plan.settings
        try:
            encoder = open_encoder(settings, start_decoder(settings, self._stack))
            self._stack.callback(encoder.close)
            plan.pinned.check(encoder.info)
            threads = max(settings.prepare_threads, settings.decode_workers)
            self._preparer = ShardPreparer(encoder, media_limits(settings), decode_threads=threads)
            self._stack.callback(self._preparer.close)
            self._shared = open_shared_cache(settings, self._stack)
            self._encoder = ShardEncoder(
                encoder, max_batch_units=plan.max_batch_units, meter=open_meter(encoder.info.device)
            )
        except BaseException:
            self._stack.close()
            raise

    def is_ready(self) -> bool:
        """Answer, once the encoder is loaded."""
        return True

    def compute(self, asked: AskedShard) -> ShardRecords:
        """Compute what is missing of a shard; what fails alone stands in its records."""
        unlock(asked.records)
        return self._encoder.encode(self._preparer.prepare(asked), on_batch=self._share)

    def _share(self, batch: ComputedBatch) -> None:
        """Keep a batch in the tier that all machines share, best effort; the job's own cache takes it from the records."""
        if self._shared is not None:
            with suppress(CacheBackpressure):
                self._shared.put_many(self._plan.key, batch.hashes, batch.vectors, asked_at=batch.asked_at)

    def close(self) -> None:
        """Let go of the encoder and its processes, and hand what is queued to the shared tier."""
        self._stack.close()


def unlock(records: ShardRecords) -> ShardRecords:
    """Make records that came from Ray's object store writable: its arrays are views of shared memory."""
    records.vectors, records.sources = records.vectors.copy(), records.sources.copy()
    return records
