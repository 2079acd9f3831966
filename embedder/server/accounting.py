"""Usage onto the ledger: each task's asks with where they were answered, and encodes as they happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import DeviceUsage, EmbedOptions, EmbedOutcome, Source
from embedder.savings.usage import Counts, Group
from embedder.savings.usage_log import UsageLog

_TO_NS = 1e9
_TO_UJ = 1e6
_NAMED_HEADS = 8


class SpaceAccount:
    """Counts one space's usage. Thread-safe; a record costs one append."""

    def __init__(self, ledger: UsageLog, *, space: str) -> None:
        self._ledger = ledger
        self._space = space

    def record_encodes(self, options: EmbedOptions, *, encodes: int, usage: DeviceUsage) -> None:
        """Count contents that the device computed for a call, when it did, even if the call has gone since."""
        counts = Counts(
            encodes=encodes,
            device_ns=round(usage.device_s * _TO_NS),
            wall_ns=round(usage.wall_s * _TO_NS),
            energy_uj=round(usage.joules * _TO_UJ),
        )
        self._ledger.record(self._group(options, options.task, options.head), counts)

    def record_answers(self, options: EmbedOptions, outcome: EmbedOutcome, hashes: bytes) -> None:
        """Count a call's items for its one task; posts and videos by their parts, where those were asked for."""
        hashes = outcome.counted.hashes if outcome.counted else hashes
        self._ledger.record(self._group(options, options.task, options.head), _counts(outcome), hashes)

    def record_heads(
        self,
        options: EmbedOptions,
        outcome: EmbedOutcome,
        hashes: bytes,
        *,
        heads: tuple[str, ...],
        head_seconds: Sequence[float] | npt.NDArray[np.float64],
        by_head: bool,
    ) -> None:
        """Count a call's items once for each head, each head being a task, or once for the call's own task.

        The first head is counted with the sources as they were; for the others, what was computed was under way already.

        Args:
            heads: the heads' names.
            head_seconds: (heads,) seconds of each.
        """
        hashes = outcome.counted.hashes if outcome.counted else hashes
        head_ns = np.rint(np.asarray(head_seconds, np.float64) * _TO_NS).astype(np.int64)
        if not by_head:
            own = _counts(outcome) + Counts(head_ns=int(head_ns.sum()))
            self._ledger.record(self._group(options, options.task, options.head), own, hashes)
            return
        group = self._group(options, "", "")
        self._ledger.shared.record(group, heads[:1], _counts(outcome), hashes, head_ns=head_ns[:1])
        if len(heads) > 1:
            self._ledger.shared.record(group, heads[1:], _counts_shared(outcome), hashes, head_ns=head_ns[1:])

    def _group(self, options: EmbedOptions, task: str, head: str) -> Group:
        return Group(
            task=task,
            client=options.client,
            space=self._space,
            lane=options.lane.name.lower(),
            tenant=options.tenant,
            head=head,
        )


def head_label(heads: Sequence[str]) -> str:
    """Return how the ledger calls the heads of one task: several serve it together, and count as one.

    Of very many heads the first are named and the rest counted, so that a row of the ledger stays small.
    """
    names = sorted(heads)
    named = "+".join(names[:_NAMED_HEADS])
    return named if len(names) <= _NAMED_HEADS else f"{named}+{len(names) - _NAMED_HEADS} more"


def _counts(outcome: EmbedOutcome) -> Counts:
    return replace(
        _counts_shared(outcome),
        in_flight_hits=outcome.count(Source.IN_FLIGHT),
        lookups=len(outcome.sources),
        lookup_ns=round(outcome.timings.lookup_s * _TO_NS),
    )


def _counts_shared(outcome: EmbedOutcome) -> Counts:
    """Count a call for a further head: nothing was looked up again, and what was computed was under way already."""
    return Counts(
        asked=len(outcome.counted_sources),
        cache_hits=outcome.count(Source.CACHE),
        shared_cache_hits=outcome.count(Source.SHARED_CACHE),
        in_flight_hits=outcome.count(Source.IN_FLIGHT) + outcome.count(Source.COMPUTED),
        failures=outcome.count(Source.FAILED),
        unshared_ns=round(outcome.unshared_seconds * _TO_NS),
    )
