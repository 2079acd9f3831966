"""The shared tier's turn: what is to be computed is asked for there first, in a thread that no hit waits for."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import structlog

from embedder.engine.contents import HalfVectors
from embedder.engine.single_flight import Flight
from embedder_cache import CacheTier, SpaceKey

_log = structlog.get_logger(__name__)

_MAX_BATCH = 1_024


class SharedFetch:
    """Looks new flights up in a tier that several machines share, many calls' together.

    A slow or dead tier costs a miss at most the tier's own time-out, and its circuit breaker ends even that.
    """

    def __init__(
        self,
        tier: CacheTier,
        space: SpaceKey,
        *,
        on_found: Callable[[Sequence[Flight], HalfVectors], None],
        on_missing: Callable[[Sequence[Flight]], None],
    ) -> None:
        """Start the thread; each flight is handed to `on_found` or `on_missing`, once."""
        self._tier = tier
        self._space = space
        self._on_found = on_found
        self._on_missing = on_missing
        self._waiting: deque[Flight] = deque()
        self._condition = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="shared-fetch", daemon=True)
        self._thread.start()

    def submit(self, flights: Sequence[Flight]) -> None:
        """Ask for these soon."""
        if not flights:
            return
        with self._condition:
            self._waiting.extend(flights)
            self._condition.notify()

    def close(self) -> None:
        """Hand on what waits, and stop."""
        with self._condition:
            self._closed = True
            self._condition.notify()
        self._thread.join()

    def _run(self) -> None:
        while flights := self._take():
            found = self._found_of(flights)
            held = [row for row in range(len(flights)) if row in found]
            if held:
                self._on_found([flights[row] for row in held], np.stack([found[row] for row in held]))
            if len(held) < len(flights):
                self._on_missing([flight for row, flight in enumerate(flights) if row not in found])

    def _take(self) -> list[Flight]:
        with self._condition:
            self._condition.wait_for(lambda: self._waiting or self._closed)
            return [self._waiting.popleft() for _ in range(min(_MAX_BATCH, len(self._waiting)))]

    def _found_of(self, flights: Sequence[Flight]) -> dict[int, npt.NDArray[np.float16]]:
        """Return the vectors that the tier holds, each (dim,), by row."""
        try:
            lookup = self._tier.get_many(self._space, b"".join([flight.item.content_hash for flight in flights]))
        except Exception:  # noqa: BLE001 - a defect in a best-effort tier costs an encode, never an answer
            _log.exception("shared tier look-up failed", items=len(flights))
            return {}
        return {int(row): lookup.vectors[row] for row in np.flatnonzero(lookup.found)}
