"""The shared tier: the same checksummed records in Valkey, on one server or a cluster, best effort, behind circuit breakers."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheBackpressure, CacheClosed, TierUnavailable
from embedder_cache.key import KEY_BYTES, SpaceKey, key_list, pack_keys
from embedder_cache.record import RecordLayout
from embedder_cache.tier import AskedAt, Lookup, as_half_vectors
from embedder_cache.valkey_node import SlotMoved, ValkeyNode
from embedder_cache.valkey_servers import Rows, open_servers
from embedder_cache.valkey_settings import ValkeySettings

if TYPE_CHECKING:
    import redis

__all__ = ["ValkeySettings", "ValkeyTier"]

_NAMESPACE = b"embedder:1:"
_ERASED = b"embedder:erased:"
_TOMBSTONE = b""
_GLOB_SPECIAL = frozenset(b"*?[]\\^-")
_COMMAND_KEYS = 512
_MAX_ASKED_AT_ONCE = 16


@dataclass(frozen=True)
class _Put:
    space: SpaceKey
    names: list[bytes]
    records: npt.NDArray[np.uint8]
    asked_at: AskedAt
    stored: Future[None]


class ValkeyTier:
    """Records in a Valkey (or Redis) server that many machines share, or in a Valkey cluster. Thread-safe.

    A server that is slow, dead or wrong costs a lookup `max_wait_ms` a few times, then nothing: what it holds is a miss, and what the
    other nodes of a cluster hold is found. Nothing here is the only copy of anything.
    """

    def __init__(self, settings: ValkeySettings) -> None:
        """Prepare the connections; the servers need not be there.

        Raises:
            CacheRequestError: the URL can't be read.
            ImportError: the `redis` package is missing; it comes with `embedder[valkey]`.
        """
        self._settings = settings
        self._servers = open_servers(settings)
        self._must_look = True
        self._askers = ThreadPoolExecutor(_MAX_ASKED_AT_ONCE, thread_name_prefix="embedder-cache-valkey-ask")
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._queue_lock = threading.Lock()
        self._queued_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._store_queued, name="embedder-cache-valkey", daemon=True)
        self._thread.start()

    @property
    def is_available(self) -> bool:
        """Whether a server answered lately, or none has been asked yet."""
        nodes = self._servers.nodes()
        return not nodes or any(not node.breaker.is_open for node in nodes)

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look n packed content hashes up; whatever goes wrong is a miss. See `CacheTier`."""
        asked_at = time.time()
        keys = pack_keys(space.prefix, hashes)
        layout = RecordLayout(space.dim)
        records = np.zeros((len(keys), layout.record_bytes), np.uint8)
        names = _names(keys)

        def fetch(node: ValkeyNode, rows: Rows) -> None:
            for start in range(0, len(rows), _COMMAND_KEYS):
                asked = rows[start : start + _COMMAND_KEYS]
                for row, value in zip(asked, node.get([names[row] for row in asked]), strict=True):
                    if value is not None and len(value) == layout.record_bytes:
                        records[row] = np.frombuffer(value, np.uint8)

        self._ask_each(names, fetch)
        found = layout.check(records, keys)
        records[~found] = 0
        return Lookup(layout.vectors(records), found, asked_at)

    def _ask_each(self, names: Sequence[bytes], ask: Callable[[ValkeyNode, Rows], Any]) -> list[TierUnavailable]:
        """Ask the servers that hold these names, side by side; returns why some of them did not answer."""
        failures: list[TierUnavailable] = []
        if self._must_look:
            try:
                self._must_look = False
                self._servers.look()
            except TierUnavailable as error:
                failures.append(error)
        placed = self._servers.place(names)
        if sum(len(rows) for _, rows in placed) < len(names):
            self._must_look = True
            failures.append(TierUnavailable("the shared tier's cluster has no node for some keys"))
        # One is asked right here: a thread would only be waited for.
        others = [self._askers.submit(ask, node, rows) for node, rows in placed[1:]]
        answers: list[Callable[[], Any]] = [future.result for future in others]
        if placed:
            answers.insert(0, lambda: ask(*placed[0]))
        for answer in answers:
            try:
                answer()
            except TierUnavailable as error:
                self._must_look = True
                failures.append(error)
        return failures

    def put_many(
        self,
        space: SpaceKey,
        hashes: bytes,
        vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
        *,
        asked_at: AskedAt | None = None,
    ) -> Future[None]:
        """Queue a batch for the server; a record that it has stays.

        Returns:
            A future that is done when the server has the batch; it holds TierUnavailable when it does not.
        Raises:
            CacheRequestError: shapes don't fit, or a vector is not finite.
            CacheBackpressure: too much waits for the server; nothing was queued.
            CacheClosed: the tier is closed.
        """
        keys = pack_keys(space.prefix, hashes)
        halves = as_half_vectors(vectors, count=len(keys), dim=space.dim)
        now = time.time()
        records = RecordLayout(space.dim).seal(keys, halves, int(now))
        put = _Put(space, _names(keys), records, now if asked_at is None else asked_at, Future())
        with self._queue_lock:
            if self._closed:
                raise CacheClosed("the shared tier is closed")
            if self._queued_bytes and self._queued_bytes + records.nbytes > self._settings.max_queue_bytes:
                raise CacheBackpressure(
                    f"{self._queued_bytes} bytes wait for the shared tier; max_queue_bytes={self._settings.max_queue_bytes}"
                )
            self._queued_bytes += records.nbytes
            self._queue.put(put)
        return put.stored

    def _store_queued(self) -> None:
        while (put := self._queue.get()) is not None:
            with self._queue_lock:
                self._queued_bytes -= put.records.nbytes
            if put.stored.set_running_or_notify_cancel():
                self._store(put)

    def _store(self, put: _Put) -> None:
        try:
            self._store_alive(put)
        except TierUnavailable as error:
            put.stored.set_exception(error)
        else:
            put.stored.set_result(None)

    def _store_alive(self, put: _Put) -> None:
        """Store what was not erased after it was asked for.

        Raises:
            TierUnavailable: a server did not take its part; the others have theirs.
        """
        erased: list[Any] = []
        marker = [_ERASED + put.space.prefix]
        failures = self._ask_each(marker, lambda node, _: erased.extend(node.get(marker)))
        if failures:
            raise failures[-1]
        erased_at = erased[0]
        alive = np.broadcast_to(erased_at is None or float(erased_at) < np.asarray(put.asked_at), len(put.names))
        rows = np.flatnonzero(alive)
        names = [put.names[row] for row in rows]
        records = put.records[rows]

        def store(node: ValkeyNode, held: Rows) -> None:
            for start in range(0, len(held), _COMMAND_KEYS):
                part = held[start : start + _COMMAND_KEYS]
                chosen = [names[row] for row in part]
                node.ask(lambda client: self._set_new(client, chosen, records[part]))  # noqa: B023 - called at once

        failures = self._ask_each(names, store)
        if any(isinstance(failure, SlotMoved) for failure in failures):
            self._servers.look(patiently=True)
            failures = self._ask_each(names, store)
        if failures:
            raise failures[-1]

    def _set_new(self, client: redis.Redis, names: Sequence[bytes], records: npt.NDArray[np.uint8]) -> None:
        """Set what is not there: neither a record of another writer, nor a tombstone."""
        pipeline = client.pipeline(transaction=False)
        for name, record in zip(names, records, strict=True):
            pipeline.set(name, record.tobytes(), nx=True, ex=self._settings.time_to_live_s)
        pipeline.execute()

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Erase contents; for `tombstone_s` they don't come back. Returns how many were there.

        Raises:
            TierUnavailable: a server did not confirm it.
        """
        return self._bury(_names(pack_keys(space.prefix, hashes)))

    def erase_space(self, space: SpaceKey) -> int:
        """Erase a whole space of one tenant; returns how many records it had.

        Raises:
            TierUnavailable: a server did not confirm it.
        """
        self._look_for_erasure()
        marker = [_ERASED + space.prefix]
        pattern = _NAMESPACE + _escape(space.prefix) + b"*"
        erased_at = repr(time.time())
        for node, _ in self._confirmed_place(marker):
            node.ask_patiently(lambda client: client.set(marker[0], erased_at, ex=self._settings.tombstone_s))
        held: list[bytes] = []
        for node in self._servers.nodes():
            held += node.ask_patiently(
                lambda client: [
                    name
                    for name in client.scan_iter(match=pattern, count=1000)
                    if len(name) == len(_NAMESPACE) + KEY_BYTES
                ]
            )
        return self._bury(held)

    def compact(self) -> None:
        """Overwrite what the servers' buffers and freed memory may still hold of erased records.

        Replies and commands lie in buffers of our connections until something else does, and freed memory is not wiped;
        zeros of many sizes take their place. That reaches what this process had a hand in, as far as was measured; the
        buffers of other machines' connections, the servers' replicas and their files are the operator's.

        Raises:
            TierUnavailable: a server did not confirm it.
        """
        self._look_for_erasure()
        for node in self._servers.nodes():
            node.scrub()

    def _look_for_erasure(self) -> None:
        """Know every server that may hold something.

        Raises:
            TierUnavailable: none says.
        """
        self._servers.look(patiently=True)

    def _confirmed_place(self, names: Sequence[bytes]) -> list[tuple[ValkeyNode, Rows]]:
        """Return the servers that hold these names, all of them.

        Raises:
            TierUnavailable: some names lie nowhere now.
        """
        placed = self._servers.place(names)
        if sum(len(rows) for _, rows in placed) < len(names):
            raise TierUnavailable("the shared tier did not confirm the erasure: its cluster has no node for some keys")
        return placed

    def _bury(self, names: Sequence[bytes]) -> int:
        """Erase by name; every server that can is told before one that can't is reported.

        Raises:
            TierUnavailable: a server did not confirm it.
        """
        self._look_for_erasure()
        erased, failures = 0, []
        for node, rows in self._confirmed_place(names):
            try:
                for start in range(0, len(rows), _COMMAND_KEYS):
                    chosen = [names[row] for row in rows[start : start + _COMMAND_KEYS]]
                    erased += node.ask_patiently(lambda client: self._bury_in(client, chosen))  # noqa: B023 - called at once
            except TierUnavailable as error:
                failures.append(error)
        if failures:
            raise TierUnavailable(f"the shared tier did not confirm the erasure: {failures[0]}") from failures[0]
        return erased

    def _bury_in(self, client: redis.Redis, names: Sequence[bytes]) -> int:
        """Overwrite records with zeros where they lie in the server's memory, then put tombstones in their place."""
        sizes = client.pipeline(transaction=False)
        for name in names:
            sizes.strlen(name)
        lengths: list[int] = sizes.execute()
        burial = client.pipeline(transaction=False)
        for name, length in zip(names, lengths, strict=True):
            if length:
                burial.setrange(name, 0, bytes(length))
            burial.set(name, _TOMBSTONE, ex=self._settings.tombstone_s)
        burial.execute()
        return sum(length > 0 for length in lengths)

    def close(self) -> None:
        """Store what is queued, as far as the servers answer, and close the connections; twice does nothing."""
        with self._queue_lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._askers.shutdown()
        self._servers.close()


def _names(keys: npt.NDArray[np.uint8]) -> list[bytes]:
    return [_NAMESPACE + key for key in key_list(keys)]


def _escape(literal: bytes) -> bytes:
    """Escape the bytes that mean something in a pattern of SCAN."""
    return b"".join(b"\\" + bytes([byte]) if byte in _GLOB_SPECIAL else bytes([byte]) for byte in literal)
