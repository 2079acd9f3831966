"""The interface of an output, and the rows that it is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedder.backfill.shard import Shard
from embedder.engine.contents import HalfVectors


@dataclass(frozen=True, slots=True, eq=False)
class ShardRows:
    """The rows of one shard with their vectors.

    Attributes:
        shard: the shard.
        ids: (rows) ids.
        hashes: (rows, 32) uint8 content hashes.
        vectors: (rows, dim) float16 of L2 norm 1; zeros for a row without a vector.
        has_vector: (rows,) bool.
    """

    shard: Shard
    ids: list[str]
    hashes: npt.NDArray[np.uint8]
    vectors: HalfVectors
    has_vector: npt.NDArray[np.bool_]


class Output(Protocol):
    """One place that vectors are written to; used by one thread.

    A shard is written whole before the journal says that it is done, and written again in the same place where that did not come
    about, so that a killed job leaves nothing twice and nothing out.
    """

    def write(self, rows: ShardRows) -> None:
        """Write a shard; when this returns, a killed process does not lose it."""
        ...

    def finish(self) -> str:
        """Complete the output, once every shard is written; returns what is there now, in words."""
        ...

    def close(self) -> None:
        """Let go of files."""
        ...
