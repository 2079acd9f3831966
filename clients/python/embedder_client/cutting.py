"""How a call is cut: by the home of each content where there are several replicas, then by what fits one message."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from embedder_client import encoding
from embedder_client.content_hash import HASH_BYTES
from embedder_client.contents import Content, content_digest
from embedder_client.homes import Home, Homes
from embedder_client.settings import ClientSettings

Run = TypeVar("Run", encoding.Messages, bytes)


@dataclass(frozen=True)
class Cut(Generic[Run]):
    """A call cut into runs.

    Attributes:
        runs: contents, or packed hashes, of one request each.
        items: contents of the call.
        homes: where each run goes; None where there is one service.
        rows: for each position in the call, its row when the runs' answers are joined; None where that is the same.
    """

    runs: Sequence[Run]
    items: int
    homes: Sequence[Home] | None = None
    rows: list[int] | None = None

    @property
    def longest_line(self) -> int:
        """Runs that wait for one service, at most; those of different homes do not wait for each other."""
        if self.homes is None:
            return len(self.runs)
        return max(Counter(home.name for home in self.homes).values())


def cut_contents(contents: Sequence[Content], settings: ClientSettings, homes: Homes | None) -> Cut[encoding.Messages]:
    """Cut contents.

    Raises:
        InvalidRequest: a content can't travel, or is larger than any message may be.
    """
    messages = encoding.content_messages(contents)
    if homes is None:
        return Cut(encoding.split_messages(messages, settings), len(messages))
    packed = b"".join([content_digest(content) for content in contents])

    def split(positions: Sequence[int]) -> list[encoding.Messages]:
        return encoding.split_messages([messages[position] for position in positions], settings)

    return _cut_by_home(packed, homes, split, len)


def cut_hashes(packed: bytes, settings: ClientSettings, homes: Homes | None) -> Cut[bytes]:
    """Cut packed content hashes."""
    if homes is None:
        return Cut(encoding.split_hashes(packed, settings), len(packed) // HASH_BYTES)
    hashes = np.frombuffer(packed, np.uint8).reshape(-1, HASH_BYTES)

    def split(positions: Sequence[int]) -> list[bytes]:
        return encoding.split_hashes(hashes[positions].tobytes(), settings)

    return _cut_by_home(packed, homes, split, lambda run: len(run) // HASH_BYTES)


def _cut_by_home(
    packed: bytes, homes: Homes, split: Callable[[Sequence[int]], list[Run]], length: Callable[[Run], int]
) -> Cut[Run]:
    runs: list[Run] = []
    where: list[Home] = []
    order: list[int] = []
    for part in homes.parts(packed):
        positions = part.positions.tolist()
        start = 0
        for run in split(positions):
            first = positions[start] * HASH_BYTES
            where.append(Home(part.name, packed[first : first + HASH_BYTES], length(run)))
            start += length(run)
            runs.append(run)
        order += positions
    rows: list[int] = np.argsort(order).tolist()
    return Cut(runs, len(order), where, rows if len(where) > 1 else None)
