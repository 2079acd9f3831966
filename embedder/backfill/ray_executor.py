"""The Ray executor: shards are read and asked for here, and what is missing is prepared and encoded by actors anywhere."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import structlog

from embedder.backfill.asking import Asker
from embedder.backfill.ray_pool import RayPool, WorkerLost
from embedder.backfill.reading import ShardReader
from embedder.backfill.records import ShardRecords
from embedder.backfill.shard import Shard
from embedder.backfill.shard_contents import AskedShard
from embedder.errors import EmbedderError

_log = structlog.get_logger(__name__)

_HELD_SHARDS = 16
"""Shards without a missing part that may wait behind one that is computed, for each worker's shard."""
_MAX_LOSSES = 5


@dataclass(slots=True)
class _UnderWay:
    """A shard on its way; `ticket` is None where nothing was missing."""

    asked: AskedShard
    ticket: Any


class RayExecutor:
    """See `embedder.backfill.executor.Executor`; shards come out in their order.

    What the cache holds never leaves this process, and a job of hits starts no actor. Shards under way are bounded by the pool's
    room. A shard whose worker is lost is computed again by another one.
    """

    def __init__(self, reader: ShardReader, asker: Asker, open_pool: Callable[[], RayPool]) -> None:
        """Stand on what reads and asks.

        Args:
            open_pool: starts the actors; called once something must be computed.
        """
        self._reader = reader
        self._asker = asker
        self._open_pool = open_pool
        self._pool: RayPool | None = None
        self._stopping = threading.Event()

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardRecords]:
        """Compute shards in their order."""
        under_way: deque[_UnderWay] = deque()
        for shard in shards:
            if self._stopping.is_set():
                break
            asked = self._asker.ask(self._reader.read(shard))
            under_way.append(_UnderWay(asked, self._submit(asked) if asked.missing else None))
            while under_way and self._is_full(under_way):
                yield from self._finish(under_way.popleft())
        while under_way:
            yield from self._finish(under_way.popleft())

    def stop(self) -> None:
        """Begin no further shard."""
        self._stopping.set()

    def close(self) -> None:
        """Close the file that is read; whoever opened the pool closes it."""
        self._reader.close()

    def _submit(self, asked: AskedShard) -> Any:
        if self._pool is None:
            self._pool = self._open_pool()
        return self._pool.submit(asked)

    def _is_full(self, under_way: deque[_UnderWay]) -> bool:
        if under_way[0].ticket is None:
            return True
        assert self._pool is not None
        computing = sum(one.ticket is not None for one in under_way)
        return computing >= self._pool.room or len(under_way) >= self._pool.room * _HELD_SHARDS

    def _finish(self, one: _UnderWay) -> Iterator[ShardRecords]:
        """Give a shard's records out once they are whole; by the time that this goes on they are committed."""
        asked = one.asked
        records = asked.records if one.ticket is None else self._take(one)
        if asked.in_flight:
            # Earlier shards have computed these and are committed; what they failed to compute is tried here.
            held = AskedShard(records, {}, asked.in_flight)
            held.missing = self._asker.ask_again(held)
            if held.missing:
                records = self._take(_UnderWay(held, self._submit(held)))
        yield records
        self._asker.settle(asked)

    def _take(self, one: _UnderWay) -> ShardRecords:
        """Wait for a shard, and have it computed anew where its worker was lost."""
        assert self._pool is not None
        number = one.asked.records.shard.number
        for losses in range(1, _MAX_LOSSES + 1):
            try:
                return self._pool.take(one.ticket)
            except WorkerLost as error:
                _log.warning(
                    "a Ray worker was lost; its shard is computed again", shard=number, reason=str(error)[:200]
                )
                if losses < _MAX_LOSSES:
                    one.ticket = self._pool.submit(one.asked)
        raise EmbedderError(
            f"shard {number} lost its worker {_MAX_LOSSES} times: does a content of it end the process?"
        )
