"""Usage onto the ledger: each task's asks with where they were answered, and encodes as they happen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import EmbedOptions, EmbedOutcome, Source
from embedder.savings.ledger import Ledger
from embedder.savings.usage import Counts, Group

_TO_NS = 1e9


class SpaceAccount:
    """Counts one space's usage. Thread-safe; a record costs one append."""

    def __init__(self, ledger: Ledger, *, space: str) -> None:
        self._ledger = ledger
        self._space = space

    def record_encodes(self, options: EmbedOptions, *, encodes: int, device_seconds: float) -> None:
        """Count contents that the device computed for a call, when it did, even if the call has gone since."""
        self._ledger.record(
            self._group(options, options.task), Counts(encodes=encodes, device_ns=round(device_seconds * _TO_NS))
        )

    def record_answers(self, options: EmbedOptions, outcome: EmbedOutcome, hashes: bytes) -> None:
        """Count a call's items for its one task."""
        self._ledger.record(self._group(options, options.task), _counts(outcome), hashes)

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
        head_ns = np.rint(np.asarray(head_seconds, np.float64) * _TO_NS).astype(np.int64)
        if not by_head:
            own = _counts(outcome) + Counts(head_ns=int(head_ns.sum()))
            self._ledger.record(self._group(options, options.task), own, hashes)
            return
        group = self._group(options, "")
        self._ledger.shared.record(group, heads[:1], _counts(outcome), hashes, head_ns=head_ns[:1])
        if len(heads) > 1:
            self._ledger.shared.record(group, heads[1:], _counts_shared(outcome), hashes, head_ns=head_ns[1:])

    def _group(self, options: EmbedOptions, task: str) -> Group:
        return Group(task=task, client=options.client, space=self._space, lane=options.lane.name.lower())


def _counts(outcome: EmbedOutcome) -> Counts:
    return Counts(
        asked=len(outcome.sources),
        cache_hits=outcome.count(Source.CACHE),
        shared_cache_hits=outcome.count(Source.SHARED_CACHE),
        in_flight_hits=outcome.count(Source.IN_FLIGHT),
        failures=outcome.count(Source.FAILED),
        unshared_ns=round(outcome.unshared_seconds * _TO_NS),
    )


def _counts_shared(outcome: EmbedOutcome) -> Counts:
    return _counts(outcome) + Counts(in_flight_hits=outcome.count(Source.COMPUTED))
