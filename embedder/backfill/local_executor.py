"""The local executor: read, ask, prepare and encode overlap in this process, with its decode workers, so that the device never waits."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import TypeVar

from embedder.backfill.asking import Asker
from embedder.backfill.channel import Channel
from embedder.backfill.encoding import ComputedBatch, ShardEncoder
from embedder.backfill.preparing import ShardPreparer
from embedder.backfill.reading import ShardReader
from embedder.backfill.records import ShardRecords
from embedder.backfill.shard import Shard
from embedder.backfill.shard_contents import AskedShard, PreparedShard

# Shards that wait between two stages: one that is ready when the next stage is, and no more, since each holds its contents.
_WAITING = 1

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, slots=True)
class Stages:
    """What the local executor runs.

    Attributes:
        reader: reads shards.
        asker: asks the cache.
        preparer: gives what prepares, once something must be.
        encoder: gives what encodes, once something must be: loading a model takes seconds that a job of hits need not spend.
        store: begins to commit a batch; called while the next one runs.
    """

    reader: ShardReader
    asker: Asker
    preparer: Callable[[], ShardPreparer]
    encoder: Callable[[], ShardEncoder]
    store: Callable[[ComputedBatch], Future[None]]


class LocalExecutor:
    """See `embedder.backfill.executor.Executor`; shards come out in their order."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._backlog: deque[tuple[Future[None], int]] = deque()
        self._uncommitted: dict[int, tuple[AskedShard, list[Future[None]]]] = {}

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardRecords]:
        """Compute shards in their order."""
        asked: Channel[AskedShard] = Channel(_WAITING)
        prepared: Channel[PreparedShard] = Channel(_WAITING)
        done: Channel[ShardRecords] = Channel(_WAITING)
        threads = [
            self._start("read", self._ask, self._until_stopped(shards), asked),
            self._start("prepare", self._prepare, asked, prepared),
            self._start("encode", self._encode, prepared, done),
        ]
        try:
            yield from done
        finally:
            self._stopping.set()
            self._given_up.set()
            done.give_up()
            for thread in threads:
                thread.join()

    def stop(self) -> None:
        """Begin no further shard."""
        self._stopping.set()

    def close(self) -> None:
        """Close the file that is read."""
        self._stages.reader.close()

    def _start(
        self, name: str, step: Callable[[_In], _Out], inbox: Iterable[_In], outbox: Channel[_Out]
    ) -> threading.Thread:
        """Run a stage in a thread of its own; what it raises is raised where its outbox is read."""

        def work() -> None:
            error: BaseException | None = None
            try:
                for item in inbox:
                    if not outbox.give(step(item)):
                        break
            except _GivenUp:
                pass
            except BaseException as raised:  # noqa: BLE001 - it goes on to who reads the records
                error = raised
            finally:
                if isinstance(inbox, Channel):
                    inbox.give_up()
                outbox.close(error)

        thread = threading.Thread(target=work, name=f"backfill-{name}", daemon=True)
        thread.start()
        return thread

    def _until_stopped(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        for shard in shards:
            if self._stopping.is_set():
                return
            yield shard

    def _ask(self, shard: Shard) -> AskedShard:
        return self._stages.asker.ask(self._stages.reader.read(shard))

    def _prepare(self, asked: AskedShard) -> PreparedShard:
        return self._stages.preparer().prepare(asked) if asked.missing else PreparedShard(asked, [])

    def _encode(self, prepared: PreparedShard) -> ShardRecords:
        self._forget_committed()
        asked = prepared.asked
        if asked.in_flight:
            self._resolve(prepared)
        commits: list[Future[None]] = []

        def store(batch: ComputedBatch) -> None:
            commits.append(self._stages.store(batch))
            self._bound_backlog(commits[-1], len(batch.vectors), most=asked.records.shard.rows)
            if self._given_up.is_set():
                raise _GivenUp

        if prepared.parts:
            self._stages.encoder().encode(prepared, on_batch=store)
        asked.records.stored = commits
        self._uncommitted[asked.records.shard.number] = (asked, commits)
        return asked.records

    def _bound_backlog(self, commit: Future[None], items: int, *, most: int) -> None:
        """Wait while what is computed and not committed yet, a batch like this one more, would be over a shard: a kill costs no more."""
        self._backlog.append((commit, items))
        while self._backlog and self._backlog[0][0].done():
            self._backlog.popleft()
        while self._backlog and sum(count for _, count in self._backlog) + items > most:
            wait([self._backlog.popleft()[0]])

    def _resolve(self, prepared: PreparedShard) -> None:
        """Take over what earlier shards have computed since; what they failed to compute is tried here."""
        asked = prepared.asked
        for number in {earlier for earlier, _ in asked.in_flight.values()}:
            if number in self._uncommitted:
                wait(self._uncommitted[number][1])
        still = self._stages.asker.ask_again(asked)
        if still:
            asked.missing |= still
            prepared.parts += self._stages.preparer().prepare_parts(asked, still)

    def _forget_committed(self) -> None:
        for number, (asked, commits) in list(self._uncommitted.items()):
            if all(commit.done() for commit in commits):
                self._stages.asker.settle(asked)
                del self._uncommitted[number]


class _GivenUp(Exception):
    """Nobody takes the records any more."""
