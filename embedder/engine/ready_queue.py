"""The queue before the device: lanes, earliest deadline first, batches by cost."""

from __future__ import annotations

import heapq
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from embedder.engine.contents import Lane
from embedder.engine.interactive_times import InteractiveTimes
from embedder.engine.single_flight import Flight
from embedder_client.content_hash import Modality

# A batch is cut so that its most urgent content meets its deadline, but not below this share of the budget: tiny batches waste the device.
_URGENT_FILL = 0.25
# While somebody asks in the interactive lane, bulk work takes this share of a batch's budget at most, and less where that would take
# longer than `InteractiveTimes` allows.
_BULK_FILL = 0.125

_Heap = list[tuple[float, int, Flight]]


class ReadyQueue:
    """Prepared flights that wait for the device.

    `take` gives the most urgent flights of one medium, up to a budget of cost units: interactive ones first, earliest deadline
    first, then bulk ones into some of the room that is left. It never waits for a batch to fill: an idle device starts at once.
    """

    def __init__(
        self,
        *,
        max_batch_units: Mapping[Modality, float],
        batch_seconds: Callable[[Modality, float], float],
        times: InteractiveTimes,
    ) -> None:
        """Make an empty queue.

        Args:
            batch_seconds: estimates how long the device takes for a batch of so many units.
            times: how long interactive contents take, by which bulk batches are cut.
        """
        self._max_batch_units = dict(max_batch_units)
        self._batch_seconds = batch_seconds
        self._times = times
        self._heaps: dict[tuple[Lane, Modality], _Heap] = {
            (lane, modality): [] for lane in Lane for modality in max_batch_units
        }
        self._order = itertools.count()
        self._condition = threading.Condition()
        self._closed = False

    def push(self, flights: Iterable[Flight]) -> None:
        """Queue prepared flights, or queue them again when they became more urgent."""
        with self._condition:
            for flight in flights:
                modality = flight.item.modality
                assert modality is not None
                flight.is_queued = True
                if flight.lane is Lane.INTERACTIVE:
                    self._times.came()
                heapq.heappush(self._heaps[flight.lane, modality], (flight.deadline, next(self._order), flight))
            self._condition.notify()

    def take(self) -> list[Flight]:
        """Block until there is work, and take the next batch of one medium; empty when the queue is closed."""
        with self._condition:
            while True:
                modality = self._most_urgent()
                if modality is not None:
                    return self._fill(modality)
                if self._closed:
                    return []
                self._condition.wait()

    def limit_batch(self, modality: Modality, units: float) -> float:
        """Lower a medium's batch budget, and return what it is now."""
        with self._condition:
            self._max_batch_units[modality] = min(self._max_batch_units[modality], max(1.0, units))
            return self._max_batch_units[modality]

    def close(self) -> None:
        """Let `take` return empty once nothing is queued."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _most_urgent(self) -> Modality | None:
        for lane in Lane:
            heads = []
            for modality in self._max_batch_units:
                heap = self._heaps[lane, modality]
                # A flight that became more urgent is queued twice; the copy that was taken already is dropped here.
                while heap and not heap[0][2].is_queued:
                    heapq.heappop(heap)
                if heap:
                    heads.append((heap[0][:2], modality))
            if heads:
                return min(heads)[1]
        return None

    def _fill(self, modality: Modality) -> list[Flight]:
        now = time.monotonic()
        batch: list[Flight] = []
        units = 0.0
        for lane in Lane:
            budget, most_s = self._room(lane, modality, units)
            heap = self._heaps[lane, modality]
            while heap:
                flight = heap[0][2]
                if flight.is_queued:
                    filled = units + flight.units
                    # One content is always taken, however large it is.
                    if batch and (filled > budget or self._is_longer(modality, filled, most_s)):
                        return batch
                    if units >= _URGENT_FILL * budget and not self._meets(batch[0], modality, filled, now):
                        return batch
                    flight.is_queued = False
                    batch.append(flight)
                    units = filled
                heapq.heappop(heap)
        return batch

    def _room(self, lane: Lane, modality: Modality, units: float) -> tuple[float, float]:
        """Return how many units and seconds a batch may come to by one lane's work, where it holds so many units already."""
        budget = self._max_batch_units[modality]
        if lane is Lane.INTERACTIVE or not self._times.is_asked:
            return budget, math.inf
        bulk_s = self._times.bulk_batch_s()
        before_s = self._batch_seconds(modality, units) if units else 0.0
        return _BULK_FILL * budget, math.inf if bulk_s is None else before_s + bulk_s

    def _is_longer(self, modality: Modality, units: float, most_s: float) -> bool:
        return most_s < math.inf and self._batch_seconds(modality, units) > most_s

    def _meets(self, most_urgent: Flight, modality: Modality, units: float, now: float) -> bool:
        return now + self._batch_seconds(modality, units) <= most_urgent.deadline
