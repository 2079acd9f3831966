"""Watches calls, engines and heads: counts what they tell, and traces the calls that carry a trace."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from embedder.engine.contents import EmbedOptions, EmbedOutcome, Lane, Source
from embedder.engine.observer import EngineObserver
from embedder.engine.single_flight import Flight, traceparents_of
from embedder.engine.worker import EncodedBatch
from embedder.telemetry import catalogue as metrics
from embedder.telemetry.tally import Tally

if TYPE_CHECKING:
    from embedder.telemetry.tracing import Tracing

_SOURCE_NAMES = {source: source.name.lower() for source in Source}
_LANE_NAMES = {lane: lane.name.lower() for lane in Lane}
# A span names so many heads and counts the rest: a call may ask thousands, and collectors cut or drop such attributes.
_TRACED_HEADS = 8


class ServiceObserver:
    """Counts calls and heads. Thread-safe; a call costs two observations and no lock."""

    def __init__(self, tally: Tally, *, tracing: Tracing | None, reason_of: Callable[[Exception], str]) -> None:
        """Watch a service.

        Args:
            tally: where it counts.
            tracing: where spans go; None traces nothing.
            reason_of: an error's reason as the error table says it.
        """
        self.tally = tally
        self.tracing = tracing
        self._reason_of = reason_of

    def call_ended(self, method: str, outcome: str, seconds: float) -> None:
        """Hear that a call ended: `method` as its path on the wire, `outcome` OK or a reason."""
        method = method[1:]
        self.tally.add(metrics.REQUESTS, 1, (method, outcome))
        self.tally.observe(metrics.REQUEST_SECONDS, seconds, (method,))

    def heads_ran(self, options: EmbedOptions, *, method: str, heads: Sequence[str], heads_s: float) -> None:
        """Hear that a call's heads, or its index, answered just now."""
        self.tally.observe(metrics.HEADS_SECONDS, heads_s, (method,))
        if options.traceparent and self.tracing:
            named = list(heads[:_TRACED_HEADS])
            attributes: dict[str, int | list[str]] = {"embedder.heads": named, "embedder.heads.count": len(heads)}
            self.tracing.span_until_now(options.traceparent, "heads", heads_s, attributes)

    def of_space(self, space: str, *, traces_lookups: bool = True) -> SpaceObserver:
        """Return who watches one space's engine.

        Args:
            traces_lookups: False in an engine's process: its look-ups are none of a call's.
        """
        return SpaceObserver(
            self.tally, space=space, tracing=self.tracing, reason_of=self._reason_of, traces_lookups=traces_lookups
        )


class SpaceObserver(EngineObserver):
    """Counts what one space's engine does, and traces what was computed for calls that are traced."""

    def __init__(
        self,
        tally: Tally,
        *,
        space: str,
        tracing: Tracing | None,
        reason_of: Callable[[Exception], str],
        traces_lookups: bool = True,
    ) -> None:
        self._tally = tally
        self._traces_lookups = traces_lookups
        self._space = space
        self._tracing = tracing
        self._reason_of = reason_of
        self._item_labels = {
            (lane, source): (space, _LANE_NAMES[lane], _SOURCE_NAMES[source]) for lane in Lane for source in Source
        }

    def looked_up(self, options: EmbedOptions, *, contents: int, held: int, lookup_s: float) -> None:
        """Trace a look-up."""
        if self._tracing and self._traces_lookups:
            attributes = {"embedder.contents": contents, "embedder.cache_hits": held}
            self._tracing.span_until_now(options.traceparent, "lookup", lookup_s, attributes)

    def answered(self, options: EmbedOptions, outcome: EmbedOutcome) -> None:
        """Count a call's contents."""
        self._tally.observe(metrics.LOOKUP_SECONDS, outcome.timings.lookup_s, (self._space,))
        for source, count in enumerate(np.bincount(outcome.sources).tolist()):
            if count:
                self._tally.add(metrics.ITEMS, count, self._item_labels[options.lane, Source(source)])
        for error in outcome.failures.values():
            self._tally.add(metrics.ITEM_FAILURES, 1, (self._space, self._reason_of(error)))

    def encoded(self, batch: EncodedBatch) -> None:
        """Count a batch, and trace it for every call that waits for it."""
        flights = batch.flights
        modality = flights[0].item.modality
        medium = (self._space, str(modality))
        tally = self._tally
        tally.observe(metrics.ENCODE_SECONDS, batch.encode_s, medium)
        tally.observe(metrics.BATCH_ITEMS, len(flights), medium)
        tally.observe(metrics.BATCH_UNITS, sum(flight.units for flight in flights), medium)
        tally.add(metrics.WORKED_UNITS, batch.shape.padded_units, medium)
        tally.observe_many(metrics.PREPARE_SECONDS, [flight.prepare_s for flight in flights], medium)
        by_lane: dict[Lane, list[int]] = defaultdict(list)
        for row, flight in enumerate(flights):
            by_lane[flight.owner.options.lane].append(row)
        for lane, rows in by_lane.items():
            waits = [batch.started_at - flights[row].ready_at for row in rows]
            tally.observe_many(metrics.QUEUE_SECONDS, waits, (self._space, _LANE_NAMES[lane]))
            seconds = float(batch.device_seconds[rows].sum())
            tally.add(metrics.DEVICE_SECONDS, seconds, (self._space, _LANE_NAMES[lane], str(modality)))
        if self._tracing:
            self._trace_batch(batch, self._tracing)

    def stored(self, *, items: int, store_s: float, failed: bool) -> None:
        """Count a commit."""
        if failed:
            self._tally.add(metrics.STORE_FAILURES, items, (self._space,))
        else:
            self._tally.observe(metrics.STORE_SECONDS, store_s, (self._space,))

    def _trace_batch(self, batch: EncodedBatch, tracing: Tracing) -> None:
        """Make the spans of one batch in the trace of each call that waits for some of it."""
        by_call: dict[str, list[Flight]] = defaultdict(list)
        for flight in batch.flights:
            for traceparent in traceparents_of(flight):
                by_call[traceparent].append(flight)
        clock = tracing.clock()
        ended_at = batch.started_at + batch.encode_s
        shape: dict[str, str | float] = {
            "embedder.batch.items": len(batch.flights),
            "embedder.batch.units": sum(flight.units for flight in batch.flights),
            "embedder.modality": str(batch.flights[0].item.modality),
        }
        for traceparent, flights in by_call.items():
            attributes: dict[str, str | float] = {"embedder.contents": len(flights)}
            prepared_at = max(flight.ready_at for flight in flights)
            began_at = min(flight.ready_at - flight.prepare_s for flight in flights)
            tracing.span(traceparent, "prepare", clock(began_at), clock(prepared_at), attributes)
            tracing.span(traceparent, "queue", clock(prepared_at), clock(batch.started_at), attributes)
            tracing.span(traceparent, "encode", clock(batch.started_at), clock(ended_at), attributes | shape)
