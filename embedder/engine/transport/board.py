"""The board: what every process of a service must know at once, in shared memory, read without asking anybody.

Each cell has one writing process, so no lock is shared: an engine writes its own row, a front-end the cells of what it has admitted.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import Lane
from embedder.engine.cost_model import CostLine
from embedder.engine.transport.shared_block import SharedBlock
from embedder_client.content_hash import Modality

_MEDIA = (Modality.TEXT, Modality.IMAGE)
_ENGINE = np.dtype(
    [
        ("beat_ns", np.int64),
        ("pace", np.float64),
        ("fixed_s", np.float64, len(_MEDIA)),
        ("rate_s", np.float64, len(_MEDIA)),
        ("units_per_item", np.float64, len(_MEDIA)),
    ]
)


class Board:
    """One service's board: for each engine its pulse and cost figures; for each front-end what it has queued there."""

    def __init__(self, block: SharedBlock, *, frontends: int, engines: int) -> None:
        self.block = block
        self.frontends = frontends
        self.engines = engines
        self._engines: npt.NDArray[Any] = block.array(_ENGINE, engines)
        shape = (frontends, engines, len(Lane))
        queued = block.array(np.int64, int(np.prod(shape)), offset=engines * _ENGINE.itemsize)
        self._queued_ns: npt.NDArray[np.int64] = queued.reshape(shape)  # type: ignore[assignment]  # by its dtype

    @classmethod
    def create(cls, *, frontends: int, engines: int) -> Board:
        """Make an empty board."""
        size_bytes = engines * _ENGINE.itemsize + frontends * engines * len(Lane) * 8
        return cls(SharedBlock.create("embedder-board", size_bytes=size_bytes), frontends=frontends, engines=engines)

    def publish(self, engine: int, lines: Mapping[Modality, CostLine], *, pace: float) -> None:
        """Show an engine's pulse, and what its work costs; the engine does, several times a second."""
        row = self._engines[engine]
        for column, modality in enumerate(_MEDIA):
            line = lines[modality]
            row["fixed_s"][column] = line.fixed_s
            row["rate_s"][column] = line.rate_s
            row["units_per_item"][column] = line.units_per_item
        row["pace"] = pace
        row["beat_ns"] = time.monotonic_ns()

    def lines(self, engine: int) -> dict[Modality, CostLine]:
        """Read what an engine's work costs, by medium; empty before it has said so."""
        row = self._engines[engine]
        if not row["beat_ns"]:
            return {}
        return {
            modality: CostLine(
                fixed_s=float(row["fixed_s"][column]),
                rate_s=float(row["rate_s"][column]),
                units_per_item=float(row["units_per_item"][column]),
            )
            for column, modality in enumerate(_MEDIA)
        }

    def pace(self, engine: int) -> float:
        """Read how long an engine's last batches took beside what they should have."""
        return float(self._engines[engine]["pace"])

    def silence_s(self, engine: int) -> float:
        """Return the seconds since an engine's last pulse."""
        return 1e-9 * (time.monotonic_ns() - int(self._engines[engine]["beat_ns"]))

    def queue(self, *, frontend: int, engine: int) -> QueuedOnBoard:
        """Return one front-end's cells of one engine's queue."""
        return QueuedOnBoard(self._queued_ns[:, engine], frontend)

    def queued_s(self, engine: int, lane: Lane) -> float:
        """Estimated device seconds that all front-ends have queued in an engine's lane."""
        return 1e-9 * int(self._queued_ns[:, engine, lane].sum())

    def forget_frontend(self, frontend: int) -> None:
        """Take out what a front-end had queued, once it is dead."""
        self._queued_ns[frontend] = 0


class QueuedOnBoard:
    """Queued device nanoseconds of one engine: counted in one front-end's cells, read from all of them."""

    def __init__(self, queued_ns: npt.NDArray[np.int64], frontend: int) -> None:
        self._queued_ns = queued_ns  # (frontends, lanes)
        self._frontend = frontend

    def add(self, lane: Lane, nanoseconds: int) -> None:
        """Count work in, or out when negative; one thread at a time."""
        self._queued_ns[self._frontend, lane] += nanoseconds

    def total(self, lane: Lane) -> int:
        """Return what every front-end has queued in a lane."""
        return int(self._queued_ns[:, lane].sum())
