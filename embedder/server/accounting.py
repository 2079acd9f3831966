"""Usage onto the ledger: each task's asks with where they were answered, and encodes as they happen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from embedder.engine.contents import DeviceUsage, EmbedOptions, EmbedOutcome, Source
from embedder.savings.usage import Counts, Group
from embedder.savings.usage_log import UsageLog

_TO_NS = 1e9
_TO_UJ = 1e6


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
        head_seconds: Sequence[tuple[str, float]],
        by_head: bool,
    ) -> None:
        """Count a call's items once for each head, each head being a task, or once for the call's own task.

        The first head is counted with the sources as they were; for the others, what was computed was under way already.
        """
        hashes = outcome.counted.hashes if outcome.counted else hashes
        if not by_head:
            head_ns = round(sum(seconds for _, seconds in head_seconds) * _TO_NS)
            group = self._group(options, options.task, options.head)
            self._ledger.record(group, _counts(outcome) + Counts(head_ns=head_ns), hashes)
            return
        for position, (head, seconds) in enumerate(head_seconds):
            counts = _counts(outcome) if position == 0 else _counts_shared(outcome)
            self._ledger.record(
                self._group(options, head, head), counts + Counts(head_ns=round(seconds * _TO_NS)), hashes
            )

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
    """Return how the ledger calls the heads of one task: several serve it together, and count as one."""
    return "+".join(sorted(heads))


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
