"""Shadow traffic: a sample of what is asked of one space is computed in another too, in the bulk lane and after the reply."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import structlog

from embedder.engine.contents import ContentItem, Contents, EmbedOptions, EmbedOutcome, ItemContents, Lane, Source
from embedder.errors import EmbedderError, Overloaded, Unavailable
from embedder.server.spaces import ServedSpace
from embedder.spaces.sampling import sampled_rows
from embedder.telemetry import catalogue as metrics
from embedder.telemetry.tally import Tally
from embedder_client.content_hash import Modality

_log = structlog.get_logger(__name__)

TASK = "shadow"
_MAX_WAITING_CALLS = 256
_MAX_ITEMS = 64
_DEADLINE_S = 60.0
_KEPT_HASHES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Sample:
    """What is to be computed of one call."""

    space: ServedSpace
    items: list[ContentItem]


class ShadowTraffic:
    """Computes samples in a thread of its own; what it can't keep up with is dropped and counted, never waited for."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._waiting: queue.Queue[_Sample | None] = queue.Queue(_MAX_WAITING_CALLS)
        self._seen: dict[str, set[bytes]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)
        self._thread.start()

    def offer(self, shadows: Sequence[tuple[ServedSpace, float]], contents: Contents) -> None:
        """Take a call's contents in, those that the sample holds; returns at once.

        Videos are left out: decoding them again would take the decoders from those who wait.
        """
        hashes = contents.hashes
        for space, rate in shadows:
            rows = sampled_rows(hashes, rate)
            items = [item for row in rows.tolist() if _can_be_shadowed(item := contents[row])]
            if not items:
                continue
            try:
                self._waiting.put_nowait(_Sample(space, items))
            except queue.Full:
                self._count(space, "dropped", len(items))

    def close(self) -> None:
        """Stop; what waits is forgotten."""
        self._stopping.set()
        while True:
            try:
                self._waiting.put_nowait(None)
                break
            except queue.Full:
                self._waiting.get_nowait()
        self._thread.join()

    def _run(self) -> None:
        while (sample := self._waiting.get()) is not None and not self._stopping.is_set():
            try:
                self._compute(sample)
            except Exception:  # noqa: BLE001 - nobody waits for it, and the next sample may be computed
                _log.exception("shadow traffic could not be computed", space=sample.space.name)
                self._count(sample.space, "failed", len(sample.items))
            del sample  # a retired space is closed once nobody holds it

    def _compute(self, sample: _Sample) -> None:
        space = sample.space
        seen = self._seen.setdefault(space.name, set())
        if len(seen) > _KEPT_HASHES:
            seen.clear()
        items = [item for item in sample.items if item.content_hash not in seen]
        for start in range(0, len(items), _MAX_ITEMS):
            part = items[start : start + _MAX_ITEMS]
            options = EmbedOptions(
                deadline=time.monotonic() + _DEADLINE_S, lane=Lane.BULK, task=TASK, client=TASK, durable=False
            )
            try:
                outcome = space.engine.embed(ItemContents(part), options)
            except (Overloaded, Unavailable):
                self._count(space, "dropped", len(part))
                continue
            except EmbedderError:
                self._count(space, "failed", len(part))
                continue
            self._count_outcome(space, outcome)
            seen.update(item.content_hash for item in part)

    def _count_outcome(self, space: ServedSpace, outcome: EmbedOutcome) -> None:
        computed = int(np.count_nonzero(outcome.sources == Source.COMPUTED))
        failed = len(outcome.failures)
        self._count(space, "computed", computed)
        self._count(space, "failed", failed)
        self._count(space, "held", len(outcome.sources) - computed - failed)

    def _count(self, space: ServedSpace, outcome: str, count: int) -> None:
        if count:
            self._tally.add(metrics.SHADOW_CONTENTS, count, (space.name, outcome))


def _can_be_shadowed(item: ContentItem) -> bool:
    if item.error is not None or item.payload is None or item.modality is Modality.VIDEO:
        return False
    if isinstance(item.payload, tuple):
        return all(field.item.payload is not None and _can_be_shadowed(field.item) for field in item.payload)
    return isinstance(item.payload, str | bytes)
