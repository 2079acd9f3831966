"""A front-end's engine: looks up here, joins what this front-end has in flight, and has the rest computed by engine processes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from embedder.encoders.base import Preparing
from embedder.engine.admission import Admission
from embedder.engine.contents import ContentItem, Contents, EmbedOptions, EmbedOutcome, Lane
from embedder.engine.engine import EngineSettings
from embedder.engine.lookup_engine import LookupEngine
from embedder.engine.observer import EngineObserver
from embedder.engine.preparer import Preparer
from embedder.engine.single_flight import Flight, FlightTable
from embedder.engine.ticket import Ticket
from embedder.engine.transport.board import Board
from embedder.engine.transport.engine_link import EngineLink
from embedder.errors import DeadlineExpired, EmbedderError, Overloaded, Unavailable
from embedder_cache import CacheTier, SpaceKey

_REFRESH_S = 0.2
_RESTARTING = "the engine is restarting; what the cache holds is served meanwhile"


@dataclass(frozen=True, slots=True)
class RemoteShard:
    """One engine process: the way to it, and what is queued there."""

    link: EngineLink
    admission: Admission


class RemoteEngine(LookupEngine):
    """Engines in other processes behind the interface of one. Thread-safe.

    A content belongs to the engine that its hash names, so that front-ends which ask for it at once meet there.
    """

    def __init__(
        self,
        preparing: Preparing,
        *,
        cache: CacheTier,
        space: SpaceKey,
        settings: EngineSettings,
        board: Board,
        shared: CacheTier | None = None,
        observer: EngineObserver | None = None,
    ) -> None:
        """Start the threads that tokenize and decode; `attach` the engines before the first call."""
        super().__init__(
            preparing.info,
            cache=cache,
            shared=shared,
            space=space,
            cost_model=settings.make_cost_model(preparing.info),
            observer=observer,
        )
        self._board = board
        self._refreshed_at = 0.0
        self._shards: list[RemoteShard] = []
        self._preparer = Preparer(
            preparing,
            limits=settings.limits,
            cost_model=self.cost_model,
            threads=settings.prepare_threads,
            decode_threads=settings.decode_threads,
            on_ready=self._push,
            on_failed=self._table.fail,
        )

    @property
    def table(self) -> FlightTable:
        """What this front-end has in flight."""
        return self._table

    def attach(self, shards: Sequence[RemoteShard]) -> None:
        """Set the engines, one for each device."""
        self._shards = list(shards)

    def queued_s(self, lane: Lane) -> float:
        """Estimated device seconds that all front-ends have queued in a lane of all engines."""
        return sum(self._board.queued_s(engine, lane) for engine in range(len(self._shards)))

    def outcome(self, ticket: Ticket, items: Sequence[ContentItem] | Contents) -> EmbedOutcome:
        """Read a ticket whose rows are all answered.

        Raises:
            Unavailable: no row could be answered because the engine went away; the call may be made again.
        """
        failures = ticket.failures
        if len(failures) == len(items) and failures and all(type(error) is Unavailable for error in failures.values()):
            raise next(iter(failures.values()))
        return super().outcome(ticket, items)

    def is_full(self, options: EmbedOptions) -> bool:
        """Whether a call's lane has so much work queued, for every device, that the least more would be refused."""
        seconds_left = options.deadline - time.monotonic()
        return all(shard.admission.is_full(options.lane, seconds_left=seconds_left) for shard in self._shards)

    def close(self) -> None:
        """Answer what is still in flight, and stop the threads; the cache stays open."""
        self._closed.set()
        self._preparer.close()
        for shard in self._shards:
            shard.link.disconnect("the service is shutting down")
        self._table.close(Unavailable("the service is shutting down"))

    def _mark(self) -> int:
        return 0  # whether a content was committed meanwhile is looked up by the engine, where all front-ends meet

    def _shard_of(self, content_hash: bytes) -> RemoteShard:
        return self._shards[int.from_bytes(content_hash[:8], "little") % len(self._shards)]

    def _admit(self, items: Sequence[ContentItem], options: EmbedOptions) -> list[float]:
        if not items:
            return []
        seconds_left = options.deadline - time.monotonic()
        if seconds_left <= 0:
            raise DeadlineExpired("the call's deadline had passed when it arrived")
        self._refresh_costs()
        seconds = self.cost_model.shares(items)
        by_shard: dict[RemoteShard, list[float]] = {}
        for item, share in zip(items, seconds, strict=True):
            by_shard.setdefault(self._shard_of(item.content_hash), []).append(share)
        overhead_s = self.cost_model.batch_overhead_s()
        admitted: list[tuple[RemoteShard, list[float]]] = []
        try:
            for shard, shares in by_shard.items():
                shard.admission.admit(options.lane, shares, batch_s=overhead_s, seconds_left=seconds_left)
                admitted.append((shard, shares))
        except Overloaded:
            for shard, shares in admitted:
                for share in shares:
                    shard.admission.release(options.lane, share)
            raise
        return seconds

    def _refresh_costs(self) -> None:
        """Take over what the engines have learned, now and then; all of them run the same encoder on like devices."""
        now = time.monotonic()
        if now - self._refreshed_at > _REFRESH_S:
            self._refreshed_at = now
            if lines := self._board.lines(0):
                self.cost_model.adopt(lines, pace=self._board.pace(0))

    def _release(self, flight: Flight) -> None:
        admitted_s, flight.admitted_s = flight.admitted_s, 0.0
        if admitted_s:
            # By the lane of the call that opened it: that is where it was counted in.
            self._shard_of(flight.item.content_hash).admission.release(flight.owner.options.lane, admitted_s)

    def _answer_unknown(self, ticket: Ticket, items: Mapping[int, ContentItem], indices: Sequence[int]) -> None:
        """Ask the engines: another front-end may have sent the content, or its vector may be stored by now."""
        asked_at = time.time()
        for index in indices:
            content_hash = items[index].content_hash
            if not self._shard_of(content_hash).link.ask(content_hash, ticket=ticket, row=index, asked_at=asked_at):
                ticket.fail(index, Unavailable(_RESTARTING))

    def _hasten(self, flights: Sequence[Flight]) -> None:
        for flight in flights:
            self._shard_of(flight.item.content_hash).link.hasten(flight)

    def _launch(self, ticket: Ticket, missing: Mapping[int, ContentItem], opened: list[Flight], *, mark: int) -> None:
        ready: list[Flight] = []
        for flight in opened:  # nothing is tokenized for an engine that is not there
            if self._shard_of(flight.item.content_hash).link.is_up:
                ready.append(flight)
            else:
                self._table.fail(flight, Unavailable(_RESTARTING))
        self._preparer.submit(ready)
        ticket.when_done(partial(self._drop_abandoned, ticket, missing))

    def _drop_abandoned(self, ticket: Ticket, items: Mapping[int, ContentItem]) -> None:
        """Take back from the engines what only a call waited for that has gone away."""
        if ticket.is_open:
            return
        for item in items.values():
            flight = self._table.find(item.content_hash)
            if flight is not None and self._table.drop_unwanted(flight, _gone):
                self._shard_of(item.content_hash).link.abandon(flight)

    def _push(self, flights: list[Flight]) -> None:
        by_shard: dict[RemoteShard, list[Flight]] = {}
        for flight in flights:
            by_shard.setdefault(self._shard_of(flight.item.content_hash), []).append(flight)
        for shard, ready in by_shard.items():
            shard.link.push(ready)


def _gone() -> EmbedderError:
    return DeadlineExpired("nobody waits for the content any more")
