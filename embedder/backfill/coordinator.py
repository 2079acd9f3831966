"""The coordinator: the one that commits, writes the outputs and notes shards as done, in this order, whatever executor computes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from embedder.backfill.executor import Executor
from embedder.backfill.journal import Journal, ShardDone
from embedder.backfill.manifest import Manifest
from embedder.backfill.outputs.output import Output
from embedder.backfill.outputs.rejects import Rejects
from embedder.backfill.records import ShardRecords
from embedder.backfill.settled_shard import SettledShard, settle
from embedder.backfill.shard import Shard
from embedder.backfill.wholes import WholeMaker
from embedder.errors import EmbedderError, StoreFailed
from embedder_cache import CacheError

_BEAT_INTERVAL_S = 1.0


class TooManyRejects(EmbedderError):
    """More rows were rejected than `--max-rejects` allows; what is done stays done."""


class RecordKeeper(Protocol):
    """Keeps what executors computed, and counts it."""

    def keep(self, records: ShardRecords) -> list[Future[None]]:
        """Begin to commit what the cache lacks of a shard: all that was computed where `stored` is None."""
        ...

    def count(self, records: ShardRecords, settled: SettledShard) -> None:
        """Count a shard that is done in the savings ledger."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JobParts:
    """What a coordinator works with.

    Attributes:
        manifest: what is to be done.
        journal: what is done; a run has begun.
        executor: computes.
        keeper: commits and counts; None where the executor's other end does both.
        wholes: makes posts and videos; None where the executor's other end does.
        outputs: where vectors go beside the cache.
        rejects: where rows without a vector go.
        max_rejects: most rejects of the whole job; None bears any number.
    """

    manifest: Manifest
    journal: Journal
    executor: Executor
    keeper: RecordKeeper | None
    wholes: WholeMaker | None
    rejects: Rejects
    outputs: Sequence[Output] = ()
    max_rejects: int | None = None


class Coordinator:
    """Carries a job out; used by one thread, `stop` by any."""

    def __init__(self, parts: JobParts) -> None:
        self._parts = parts
        self._stopped = threading.Event()

    @property
    def is_stopped(self) -> bool:
        """Whether somebody asked the job to stop before its end."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Let shards that are under way end, and begin no other."""
        self._stopped.set()
        self._parts.executor.stop()

    def run(self, *, on_done: Callable[[ShardDone], None] = lambda done: None) -> None:
        """Do every shard that is not done yet, then complete the outputs.

        Args:
            on_done: is told of each shard once it is done.
        Raises:
            TooManyRejects: more rows were rejected than allowed.
            EmbedderError: the job can't go on; what is done stays done.
        """
        parts = self._parts
        _, before = parts.journal.totals()
        rejected = before.rejected
        for records in parts.executor.run(self._pending()):
            settled = self._commit(records)
            for output in parts.outputs:
                output.write(settled.rows)
            parts.rejects.write(records.shard.number, settled.rejects)
            if parts.keeper is not None:
                parts.keeper.count(records, settled)
            parts.journal.note_done(settled.done)
            on_done(settled.done)
            rejected += settled.done.rejected
            if parts.max_rejects is not None and rejected > parts.max_rejects:
                raise TooManyRejects(f"{rejected} rows were rejected, and max_rejects={parts.max_rejects}")
        parts.rejects.join()

    def finish(self) -> list[str]:
        """Complete the outputs; every shard is done. Returns what they hold, in words."""
        said = [output.finish() for output in self._parts.outputs]
        self._parts.journal.note_finished()
        return said

    def _pending(self) -> Iterator[Shard]:
        manifest = self._parts.manifest
        for number in np.flatnonzero(~self._parts.journal.is_done(manifest.shards)).tolist():
            if self._stopped.is_set():
                return
            yield manifest.shard(number)

    def _commit(self, records: ShardRecords) -> SettledShard:
        """Wait until a shard's parts are in the cache, then make its wholes."""
        parts = self._parts
        try:
            kept = parts.keeper.keep(records) if parts.keeper is not None else []
            for commit in [*(records.stored or []), *kept]:
                commit.result()
        except CacheError as error:
            raise StoreFailed(f"vectors were computed and could not be stored: {error}") from error
        wholes = parts.wholes.make(records) if records.wholes and parts.wholes is not None else None
        return settle(records, wholes)


class Beat:
    """Tells the journal once a second that the run lives, in a thread of its own, so that `status` knows a killed one."""

    def __init__(self, journal: Journal, encoding: Callable[[], int]) -> None:
        self._journal = journal
        self._encoding = encoding
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="backfill-beat", daemon=True)

    def __enter__(self) -> Beat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_BEAT_INTERVAL_S):
            self._journal.note_encoding(self._encoding())
