"""The executor behind `--target`: a running service computes and keeps, in its bulk lane; what it knows by hash never travels."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from mmap import mmap
from typing import TypeVar

import numpy as np

from embedder.backfill.pinned_space import PinnedSpace
from embedder.backfill.reading import ShardReader
from embedder.backfill.records import ShardRecords, ShardUsage
from embedder.backfill.shard import Shard
from embedder.backfill.shard_contents import ShardContents
from embedder.engine.contents import ContentItem, Source
from embedder.errors import ConfigurationError, Unavailable
from embedder_client import Client, Image, Post, Text, Video
from embedder_client.content_hash import HASH_BYTES, Modality
from embedder_client.errors import ConnectionFailed, DeadlineExceeded, Overloaded

_Answer = TypeVar("_Answer")

# Shards under way together: while the service computes one, the next is read and asked for.
_UNDER_WAY = 2
# How long a service may be gone, such as for a restart, before the job gives up.
_PATIENCE_S = 600.0
_WAITS_S = (0.5, 30.0)
_TRIES = 3
_RETRIED = {"UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "ABORTED", "CANCELLED"}


class ServiceExecutor:
    """See `embedder.backfill.executor.Executor`; shards come out in their order. Every row is a part here: the service makes wholes."""

    def __init__(self, client: Client, reader: ShardReader, pinned: PinnedSpace, *, space: str, task: str) -> None:
        """Stand on a client.

        Args:
            space: the space's name on the service.
            task: what the work is called in the service's savings ledger.
        """
        self._client = client
        self._reader = reader
        self._reading = threading.Lock()
        self._pinned = pinned
        self._space = space
        self._task = task
        self._stopping = threading.Event()
        self._pool = ThreadPoolExecutor(_UNDER_WAY, thread_name_prefix="backfill-call")

    def run(self, shards: Iterable[Shard]) -> Iterator[ShardRecords]:
        """Compute shards in their order."""
        under_way: deque[Future[ShardRecords]] = deque()
        try:
            for shard in shards:
                if self._stopping.is_set():
                    break
                under_way.append(self._pool.submit(self._compute, shard))
                if len(under_way) > _UNDER_WAY:
                    yield under_way.popleft().result()
            while under_way:
                yield under_way.popleft().result()
        finally:
            self._stopping.set()
            for future in under_way:
                future.cancel()

    def stop(self) -> None:
        """Begin no further shard."""
        self._stopping.set()

    def close(self) -> None:
        """End the threads, and close the file that is read and the connection."""
        self._stopping.set()
        self._pool.shutdown(cancel_futures=True)
        self._reader.close()
        self._client.close()

    def _compute(self, shard: Shard) -> ShardRecords:
        with self._reading:
            contents = self._reader.read(shard)
        records, items = _named(contents, self._pinned.dim)
        if not items:
            return records
        start = time.perf_counter()
        found = self._patiently(
            lambda: self._client.lookup(records.part_hashes, space=self._space, timeout_s=_PATIENCE_S)
        )
        self._check(found.provenance.space_digest)
        records.usage.lookup_s = time.perf_counter() - start
        records.vectors[:] = found.vectors
        records.sources[found.found] = Source.CACHE
        wanted = list(found.wanted)
        for attempt in range(1, _TRIES + 1):
            if not wanted:
                break
            wanted = self._embed(records, items, wanted, is_last=attempt == _TRIES)
        return records

    def _embed(self, records: ShardRecords, items: list[ContentItem], wanted: list[int], *, is_last: bool) -> list[int]:
        """Send what is wanted; returns the parts that failed for no fault of theirs, to be tried again."""
        answer = self._patiently(
            lambda: self._client.embed(
                [_content(items[part]) for part in wanted],
                space=self._space,
                task=self._task,
                lane="bulk",
                durable=True,
                timeout_s=_PATIENCE_S,
            )
        )
        self._check(answer.provenance.space_digest)
        again: list[int] = []
        failed = {failure.index: failure for failure in answer.failures}
        for place, part in enumerate(wanted):
            failure = failed.get(place)
            if failure is None:
                source = Source[answer.sources[place].name]
                records.vectors[part], records.sources[part] = answer.vectors[place], source
                records.usage.encodes += source is Source.COMPUTED
            elif failure.code in _RETRIED and not is_last:
                again.append(part)
            else:
                records.part_failures[part] = failure.message
                records.sources[part] = Source.FAILED
        if answer.cost.device_time is not None:
            records.usage.device_s += answer.cost.device_time.value
        return again

    def _patiently(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask until there is an answer: an overloaded service is left alone for longer each time, and one that is gone may come back."""
        give_up_at = time.monotonic() + _PATIENCE_S
        wait_s = _WAITS_S[0]
        while True:
            try:
                return ask()
            except Overloaded:  # the client waited as long as it was asked to, several times over
                give_up_at = time.monotonic() + _PATIENCE_S
            except (ConnectionFailed, DeadlineExceeded) as error:
                if time.monotonic() > give_up_at:
                    raise Unavailable(f"the service did not answer for {_PATIENCE_S:.0f} s: {error}") from error
            if self._stopping.wait(wait_s):
                raise Unavailable("the job was stopped while the service was overloaded or gone")
            wait_s = min(2 * wait_s, _WAITS_S[1])

    def _check(self, digest: bytes) -> None:
        if digest.hex() != self._pinned.digest:
            raise ConfigurationError(
                f"this job's vectors are of the space {self._pinned.digest[:16]} ({self._pinned.model}), and the service now answers "
                f"from {digest.hex()[:16]}: start another job for it"
            )


def _named(contents: ShardContents, dim: int) -> tuple[ShardRecords, list[ContentItem]]:
    """Name a shard's distinct contents; returns its records, with nothing computed, and the contents."""
    parts: dict[bytes, int] = {}
    items: list[ContentItem] = []
    row_parts = np.full(len(contents.items), -1, np.int32)
    failures: dict[int, str] = {}
    for row, item in enumerate(contents.items):
        if item.error is not None:
            failures[row] = str(item.error)
            continue
        part = row_parts[row] = parts.setdefault(item.content_hash, len(items))
        if part == len(items):
            items.append(item)
    packed = b"".join(parts)
    records = ShardRecords(
        shard=contents.shard,
        ids=contents.ids,
        hashes=b"".join([item.content_hash or bytes(HASH_BYTES) for item in contents.items]),
        row_parts=row_parts,
        part_hashes=packed,
        vectors=np.zeros((len(items), dim), np.float16),
        sources=np.zeros(len(items), np.uint8),
        row_failures=failures,
        asked_at=time.time(),
        usage=ShardUsage(lookups=len(items), input_bytes=contents.input_bytes),
        stored=[],
    )
    return records, items


def _content(item: ContentItem) -> Text | Image | Video | Post:
    payload = item.payload
    if isinstance(payload, tuple):
        return Post({field.name: _field(field.item) for field in payload})
    return _field(item)


def _field(item: ContentItem) -> Text | Image | Video:
    payload = item.payload
    if isinstance(payload, str):
        return Text(payload)
    assert isinstance(payload, bytes | mmap)
    data = payload if isinstance(payload, bytes) else payload[:]
    return Image(data) if item.modality is Modality.IMAGE else Video(data)
