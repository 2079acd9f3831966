"""Usage between processes: one row for each minute and group, with the content hashes that it asked for."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple

import numpy as np

from embedder.savings.usage import COUNTERS, Counts, Group, UsageRecord

_MINUTE_S = 60


def pack_usage(records: Iterable[UsageRecord]) -> list[bytes]:
    """Add records up by minute and group, and write them as frames."""
    counts: dict[tuple[int, Group], Counts] = defaultdict(Counts)
    hashes: dict[tuple[int, Group], list[bytes]] = defaultdict(list)
    for record in records:
        key = (record.second - record.second % _MINUTE_S, record.group)
        counts[key] += record.counts
        hashes[key].append(record.hashes)
    joined = [b"".join(hashes[key]) for key in counts]
    keys = [(second, len(packed), *astuple(group)) for (second, group), packed in zip(counts, joined, strict=True)]
    rows = np.array([astuple(amount) for amount in counts.values()], np.int64).reshape(-1, len(COUNTERS))
    return [json.dumps(keys).encode(), rows.tobytes(), b"".join(joined)]


def unpack_usage(frames: Sequence[bytes]) -> Iterator[UsageRecord]:
    """Read what `pack_usage` wrote."""
    rows = np.frombuffer(frames[1], np.int64).reshape(-1, len(COUNTERS)).tolist()
    end = 0
    for (second, length, *names), row in zip(json.loads(frames[0]), rows, strict=True):
        start, end = end, end + length
        yield UsageRecord(second, Group(*names), Counts(*row), frames[2][start:end])
