"""Encodes a shard's parts in batches that hang on nothing but the shard: the same bits on whatever machine, whatever else waits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from embedder.backfill.preparing import fail
from embedder.backfill.records import ShardRecords
from embedder.backfill.shard_contents import AskedShard, PreparedPart, PreparedShard
from embedder.encoders.base import Encoder
from embedder.engine.contents import DeviceUsage, HalfVectors, Source
from embedder.engine.cost_model import CostModel
from embedder.engine.forward import Forward
from embedder.errors import EmbedderError
from embedder.savings.meter import DeviceMeter, Meter
from embedder_client.content_hash import HASH_BYTES, Modality


@dataclass(frozen=True, slots=True, eq=False)
class ComputedBatch:
    """What one batch came to.

    Attributes:
        hashes: (n * 32) content hashes, packed.
        vectors: (n, dim) float16 of L2 norm 1.
        asked_at: when the cache was asked for them, seconds since 1970.
        usage: what the device spent on them.
    """

    hashes: bytes
    vectors: HalfVectors
    asked_at: float
    usage: DeviceUsage


class ShardEncoder:
    """Runs shards through one device, one batch after the other; used by one thread at a time."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_batch_units: Mapping[Modality, float],
        cost_model: CostModel | None = None,
        meter: Meter | None = None,
    ) -> None:
        """Stand on an encoder.

        Args:
            max_batch_units: most tokens, or images, of one batch.
            cost_model: learns what batches take; None learns nothing.
            meter: measures each batch; None takes wall time.
        """
        self._encoder = encoder
        self._max_batch_units = dict(max_batch_units)
        self._cost_model = cost_model
        self._meter = meter or DeviceMeter()

    def encode(self, shard: PreparedShard, *, on_batch: Callable[[ComputedBatch], None] | None = None) -> ShardRecords:
        """Encode a shard's prepared parts, and complete its records.

        Args:
            on_batch: is handed each batch as it comes off the device, so that it can be committed while the next one runs.
        """
        for batch in cut_batches(shard.parts, self._max_batch_units):
            computed = self._run(shard.asked, batch)
            if computed is not None and on_batch is not None:
                on_batch(computed)
        return shard.asked.records

    def _run(self, asked: AskedShard, batch: Sequence[PreparedPart]) -> ComputedBatch | None:
        modality, records = batch[0].modality, asked.records
        start = time.perf_counter()
        self._meter.begin()
        forward = Forward(self._encoder, on_out_of_memory=lambda first, last: self._shrink(batch[first:last]))
        rows = forward.rows(modality, [part.prepared for part in batch])
        reading = self._meter.end()
        usage = DeviceUsage(reading.device.value, reading.wall.value, reading.energy.value if reading.energy else 0.0)
        computed: list[int] = []
        for part, row in zip(batch, rows, strict=True):
            if isinstance(row, EmbedderError):
                fail(asked, part.part, str(row))
            else:
                records.vectors[part.part], records.sources[part.part] = row, Source.COMPUTED
                computed.append(part.part)
        records.usage.encodes += len(computed)
        records.usage.device_s += usage.device_s
        records.usage.wall_s += usage.wall_s
        records.usage.joules += usage.joules
        if not computed:
            return None
        if len(computed) == len(batch):  # a bisected batch ran more than once: its time says nothing of the next
            self._learn(batch, seconds=time.perf_counter() - start, device_s=usage.device_s)
        hashes = b"".join([records.part_hashes[part * HASH_BYTES : (part + 1) * HASH_BYTES] for part in computed])
        return ComputedBatch(hashes, records.vectors[computed], records.asked_at, usage)

    def _learn(self, batch: Sequence[PreparedPart], *, seconds: float, device_s: float) -> None:
        model, modality = self._cost_model, batch[0].modality
        if model is None:
            return
        units = sum(part.units for part in batch)
        model.learn_batch(modality, seconds=seconds, device_s=device_s, units=units, items=len(batch))
        longest = self._encoder.info.max_tokens
        for part in batch:
            if modality is Modality.TEXT and part.units < longest:
                model.learn_tokens(text_bytes=part.text_bytes, tokens=int(part.units))

    def _shrink(self, batch: Sequence[PreparedPart]) -> None:
        """Remember that so much does not fit on the device: later batches are half of it."""
        modality, units = batch[0].modality, sum(part.units for part in batch)
        self._max_batch_units[modality] = min(self._max_batch_units[modality], max(1.0, units / 2))


def cut_batches(
    parts: Sequence[PreparedPart], max_batch_units: Mapping[Modality, float]
) -> Iterator[list[PreparedPart]]:
    """Cut parts into batches: texts by length, so that little is padded, then images in their order.

    Args:
        parts: in any order.
        max_batch_units: most tokens, or images, of one batch; read anew for each.
    """
    for modality in (Modality.TEXT, Modality.IMAGE):
        batch: list[PreparedPart] = []
        units = 0.0
        for part in sorted((one for one in parts if one.modality is modality), key=lambda one: (one.units, one.part)):
            if batch and units + part.units > max_batch_units[modality]:
                yield batch
                batch, units = [], 0.0
            batch.append(part)
            units += part.units
        if batch:
            yield batch
