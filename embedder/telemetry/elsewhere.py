"""What several processes have counted, gathered where one of them can tell it: each sends its counts, and those of the dead are kept."""

from __future__ import annotations

import json

from embedder.telemetry.catalogue import CATALOGUE
from embedder.telemetry.metric import Kind
from embedder.telemetry.tally import Histogram, Snapshot

_GAUGES = frozenset(metric.name for metric in CATALOGUE if metric.kind is Kind.GAUGE)


def pack_counts(counts: Snapshot) -> bytes:
    """Write a snapshot for another process."""
    return json.dumps(
        {
            "values": [[name, labels, value] for (name, labels), value in counts.values.items()],
            "histograms": [
                [name, labels, held.counts, held.total] for (name, labels), held in counts.histograms.items()
            ],
        }
    ).encode()


def unpack_counts(packed: bytes | str) -> Snapshot:
    """Read what `pack_counts` wrote."""
    told = json.loads(packed)
    return Snapshot(
        {(name, tuple(labels)): value for name, labels, value in told["values"]},
        {(name, tuple(labels)): Histogram(counts, total) for name, labels, counts, total in told["histograms"]},
    )


class GatheredCounts:
    """The last counts of each process, by its name. Used by one thread.

    What a process counted stays in the sums when it has ended, as a counter must never fall; its gauges go with it.
    """

    def __init__(self) -> None:
        self._running: dict[bytes, Snapshot] = {}
        self._ended = Snapshot()

    def note(self, name: bytes, packed: bytes) -> None:
        """Take what a process has counted since it started."""
        self._running[name] = unpack_counts(packed)

    def end(self, name: bytes) -> None:
        """Hear that a process is gone."""
        counts = self._running.pop(name, None)
        if counts is not None:
            lasting = {key: value for key, value in counts.values.items() if key[0] not in _GAUGES}
            self._ended.merge(Snapshot(lasting, counts.histograms))

    def others(self, name: bytes) -> str:
        """Return what all but one process have counted, as `unpack_counts` reads it."""
        summed = Snapshot()
        summed.merge(self._ended)
        for process, counts in self._running.items():
            if process != name:
                summed.merge(counts)
        return pack_counts(summed).decode()
