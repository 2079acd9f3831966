"""The Executor interface: shards in, records out, whatever computes them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from embedder.backfill.records import ShardRecords
from embedder.backfill.shard import Shard


class Executor(Protocol):
    """Computes shards; one interface for this process, for a running service, and for a cluster.

    The coordinator (`embedder.backfill.coordinator`) is the one writer: it commits what an executor computed to the cache, writes
    the outputs, and only then notes the shard as done in the journal. So an executor keeps no state that a killed job would miss:
    a shard that was not yielded, or whose commit was lost, is given to the next run again, and what it had committed is a hit then.

    What every executor does, so that its records are those of the local one to the last bit:

    - It reads a shard with `ShardReader`, asks the cache with `Asker` before anything is tokenized or decoded, prepares what is
      missing with `ShardPreparer` and encodes it with `ShardEncoder`, whose batches hang on nothing but the shard's missing parts:
      texts by length, then images, each batch up to a budget. Any of these steps may run in another process; what passes
      between them (`ShardContents`, `AskedShard`, `PreparedShard`, `ShardRecords`) can be pickled.
    - Its encoder has the space digest that the job is pinned to (`PinnedSpace`); it refuses to go on with another one. `auto` may
      choose other numerics on another machine: name the precision there.
    - A content that two shards hold is computed by the first and is a hit for the second where the executor can see that; where
      it can't (two machines at once), the first that is committed stays, and the other may differ in its last bits.

    An executor is used by one thread; `stop` may be called from any.
    """

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardRecords]:
        """Compute shards.

        Shards are taken from the iterable as there is room for them, never all at once, so that memory does not grow with their
        number. Each comes out exactly once, in any order. A bad row, or a content that fails, stands in its shard's records and
        stops nothing.

        Args:
            shards: what is to be done, in the manifest's order.
        Raises:
            EmbedderError: shards can't be computed any more (the device is lost, the service is gone, the source was changed); what
                was yielded until then stays done.
        """
        ...

    def stop(self) -> None:
        """Begin no further shard; `run` ends after those that are under way, or before."""
        ...

    def close(self) -> None:
        """Let go of threads, processes and connections; called once, after `run` has ended or was given up."""
        ...
