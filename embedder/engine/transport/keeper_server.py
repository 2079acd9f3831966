"""The keeper: the one process that writes the cache and the savings ledger, for all front-ends and engines of a service."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import structlog
import zmq

from embedder.engine.transport.channel import Channel
from embedder.engine.transport.keeper_messages import KeeperKind, unpack_space
from embedder.engine.transport.usage_codec import unpack_usage
from embedder.savings.ledger import Gauges, Ledger
from embedder_cache import CacheBackpressure, CacheError, VectorCache

_log = structlog.get_logger(__name__)

_LINGER_MS = 2_000
_READERS_COUNT = ("hits", "misses", "damaged", "expired")


class CountsKeeper(Protocol):
    """Keeps what each process has counted; what the counts are is not the keeper's business."""

    def note(self, name: bytes, packed: bytes) -> None:
        """Take what a process has counted since it started."""
        ...

    def end(self, name: bytes) -> None:
        """Hear that a process is gone."""
        ...

    def others(self, name: bytes) -> str:
        """Return what all but one process have counted."""
        ...


@dataclass(slots=True, eq=False)
class _Sync:
    """A request that waits until every client has sent its usage."""

    asker: bytes
    request: bytes
    waits_for: set[bytes] = field(default_factory=set)


class KeeperServer:
    """Serves a cache and a ledger to this machine's processes."""

    def __init__(
        self,
        cache: VectorCache,
        ledger: Ledger,
        *,
        counts: CountsKeeper,
        context: zmq.Context[zmq.Socket[bytes]],
        path: Path,
    ) -> None:
        self._cache = cache
        self._counts = counts
        self._ledger = ledger
        self._clients: set[bytes] = set()
        self._dead: set[bytes] = set()
        self._counts_of: dict[bytes, Mapping[str, int]] = {}
        self._idle_watts: dict[str, float] = {}  # by device: engines that share one are charged once
        self._meter: dict[str, dict[str, str]] = {}
        ledger.watch(self._gauges, meter=self._meter)
        self._syncs: list[_Sync] = []
        self._gone: deque[bytes] = deque()
        self._outbox: deque[list[bytes]] = deque()
        # One thread each: usage is written in the order of its arrival, and an erasure may take its time.
        self._recorder = ThreadPoolExecutor(1, thread_name_prefix="keeper-ledger")
        self._eraser = ThreadPoolExecutor(1, thread_name_prefix="keeper-erase")
        self._channel = Channel.listen(context, path, collect=self._collect, receive=self._receive)

    def forget_client(self, name: bytes) -> None:
        """Wait for nothing more from a client's process, since it is gone."""
        self._gone.append(name)
        self._channel.wake()

    def close(self) -> None:
        """Finish what was asked, answer it, and stop; the cache and the ledger stay open."""
        self._eraser.shutdown()
        self._recorder.shutdown()
        self._cache.flush()
        self._channel.close(linger_ms=_LINGER_MS)

    def _receive(self, frames: list[bytes]) -> None:
        client, kind, request, *body = frames
        if client not in self._dead:  # what it had sent before it went is taken, but no longer waited for
            self._clients.add(client)
        if kind == KeeperKind.PUT:
            self._put(client, request, body)
        elif kind == KeeperKind.DELETE:
            self._run(self._eraser, client, request, partial(self._delete, body))
        elif kind == KeeperKind.USAGE:
            self._run(self._recorder, client, request, partial(self._record, client, body))
            self._note_flushed(client, body[0])
        elif kind == KeeperKind.METER:
            self._run(self._recorder, client, request, partial(self._note_meter, body))
        elif kind == KeeperKind.COUNTS:
            if client not in self._dead:
                self._counts.note(client, body[0])
            self._reply(client, request)
        elif kind == KeeperKind.ALL_COUNTS:
            self._reply(client, request, value=self._counts.others(client))
        elif kind == KeeperKind.SYNC:
            sync = _Sync(client, request, set(self._clients))
            self._syncs.append(sync)
            for name in sync.waits_for:
                self._outbox.append([name, KeeperKind.FLUSH, request + client])
            self._channel.wake()

    def _put(self, client: bytes, request: bytes, body: Sequence[bytes]) -> None:
        space = unpack_space(body[0])
        vectors = np.frombuffer(body[2], np.float16).reshape(-1, space.dim)
        try:
            committed = self._cache.put_many(space, body[1], vectors, asked_at=np.frombuffer(body[3], np.float64))
        except (CacheError, CacheBackpressure) as error:
            self._reply(client, request, error=error)
            return
        committed.add_done_callback(lambda future: self._reply(client, request, error=future.exception()))

    def _delete(self, body: Sequence[bytes]) -> int:
        return self._cache.delete_many(unpack_space(body[0]), body[1])

    def _record(self, client: bytes, body: Sequence[bytes]) -> None:
        for record in unpack_usage(body[2:]):
            self._ledger.add(record)
        self._counts_of[client] = json.loads(body[1])
        self._ledger.flush()

    def _note_meter(self, body: Sequence[bytes]) -> None:
        """Charge for an engine's device at rest, and note in the ledger what measures it."""
        told = json.loads(body[0])
        self._idle_watts[told["device"]] = told["idle_watts"]
        if told["meter"] != self._meter:
            self._meter = told["meter"]
            self._ledger.watch(self._gauges, meter=self._meter)

    def _gauges(self) -> Gauges:
        watts = sum(list(self._idle_watts.values()))
        return Gauges(idle_watts=watts, stored_bytes=self._cache.stats().file_bytes)

    def _note_flushed(self, client: bytes, token: bytes) -> None:
        for sync in list(self._syncs):
            if token == sync.request + sync.asker:
                self._end_wait(sync, client)

    def _end_wait(self, sync: _Sync, client: bytes) -> None:
        sync.waits_for.discard(client)
        if not sync.waits_for:
            self._syncs.remove(sync)
            # Behind the usage of all, in the one thread that records.
            self._run(self._recorder, sync.asker, sync.request, self._stats)

    def _stats(self) -> dict[str, int]:
        stats = self._cache.stats()
        counted: Counter[str] = Counter()
        for counts in list(self._counts_of.values()):
            counted.update({name: counts.get(name, 0) for name in _READERS_COUNT})
        own = {name: value for name, value in vars(stats).items() if isinstance(value, int)}
        return own | {name: counted[name] for name in _READERS_COUNT}

    def _run(self, pool: ThreadPoolExecutor, client: bytes, request: bytes, work: Callable[[], Any]) -> None:
        future: Future[Any] = pool.submit(work)
        future.add_done_callback(
            lambda done: self._reply(
                client, request, error=done.exception(), value=None if done.exception() else done.result()
            )
        )

    def _reply(self, client: bytes, request: bytes, *, error: BaseException | None = None, value: Any = None) -> None:
        if error is not None:
            _log.warning("a request to the keeper failed", client=client.decode(), error=repr(error))
        answer = json.dumps({"error": None if error is None else str(error), "value": value}).encode()
        self._outbox.append([client, KeeperKind.REPLY, request, answer])
        self._channel.wake()

    def _collect(self) -> Iterator[list[bytes]]:
        while self._gone:
            name = self._gone.popleft()
            self._dead.add(name)
            self._clients.discard(name)
            self._counts.end(name)
            for sync in list(self._syncs):
                self._end_wait(sync, name)
        for _ in range(len(self._outbox)):
            yield self._outbox.popleft()
