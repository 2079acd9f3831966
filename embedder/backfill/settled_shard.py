"""A shard whose parts and wholes are there: each row's vector, or the reason that it has none."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder.backfill.journal import ShardDone
from embedder.backfill.outputs.output import ShardRows
from embedder.backfill.records import Reject, ShardRecords
from embedder.backfill.wholes import MadeWholes
from embedder.engine.contents import Source
from embedder_client.content_hash import HASH_BYTES


@dataclass(frozen=True, slots=True, eq=False)
class SettledShard:
    """What a shard came to, row by row.

    Attributes:
        rows: ids, hashes and vectors.
        sources: (rows,) uint8 of `Source`; of rows that are one part, the first was computed and the others joined it.
        rejects: the rows without a vector.
        done: its line in the journal.
    """

    rows: ShardRows
    sources: npt.NDArray[np.uint8]
    rejects: list[Reject]
    done: ShardDone


def settle(records: ShardRecords, wholes: MadeWholes | None) -> SettledShard:
    """Lay a shard's parts and wholes out by row."""
    shard, count, dim = records.shard, len(records.ids), records.vectors.shape[1]
    vectors = np.zeros((count, dim), np.float16)
    sources = np.full(count, Source.FAILED, np.uint8)
    is_part = records.row_parts >= 0
    parts = records.row_parts[is_part]
    vectors[is_part], sources[is_part] = records.vectors[parts], records.sources[parts]
    _, first = np.unique(records.row_parts, return_index=True)
    repeats = np.ones(count, np.bool_)
    repeats[first] = False
    sources[repeats & (sources == Source.COMPUTED)] = Source.IN_FLIGHT
    reasons = dict(records.row_failures)
    for row in np.flatnonzero(is_part & (sources == Source.FAILED)).tolist():
        reasons[row] = records.part_failures[int(records.row_parts[row])]
    usage = records.usage
    encodes, device_s = usage.encodes, usage.device_s
    if wholes is not None:
        vectors[wholes.rows], sources[wholes.rows] = wholes.vectors, wholes.sources
        reasons |= {wholes.rows[place]: reason for place, reason in wholes.failures.items()}
        encodes, device_s = encodes + wholes.encodes, device_s + wholes.device_s
    counts = np.bincount(sources, minlength=max(Source) + 1)
    return SettledShard(
        rows=ShardRows(
            shard=shard,
            ids=records.ids,
            hashes=np.frombuffer(records.hashes, np.uint8).reshape(-1, HASH_BYTES),
            vectors=vectors,
            has_vector=sources != Source.FAILED,
        ),
        sources=sources,
        rejects=[
            Reject(shard.number, shard.row_offset + row, records.ids[row], reasons[row]) for row in sorted(reasons)
        ],
        done=ShardDone(
            shard=shard.number,
            rows=count,
            held=int(counts[Source.CACHE]),
            shared=int(counts[Source.SHARED_CACHE]),
            joined=int(counts[Source.IN_FLIGHT]),
            computed=int(counts[Source.COMPUTED]),
            rejected=int(counts[Source.FAILED]),
            encodes=encodes,
            device_s=device_s,
            lookup_s=usage.lookup_s,
            input_bytes=usage.input_bytes,
        ),
    )
