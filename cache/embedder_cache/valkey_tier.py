"""The shared tier: the same checksummed records in Valkey, best effort, behind a circuit breaker."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from embedder_cache.breaker import CircuitBreaker
from embedder_cache.errors import CacheBackpressure, CacheClosed, CacheRequestError, TierUnavailable
from embedder_cache.key import KEY_BYTES, SpaceKey, key_list, pack_keys
from embedder_cache.record import RecordLayout
from embedder_cache.tier import AskedAt, Lookup, as_half_vectors

if TYPE_CHECKING:
    import redis

_log = logging.getLogger(__name__)

_NAMESPACE = b"embedder:1:"
_ERASED = b"embedder:erased:"
_TOMBSTONE = b""
_GLOB_SPECIAL = frozenset(b"*?[]\\^-")
_COMMAND_KEYS = 512
_SCRUB = b"embedder:scrub:"
_SCRUB_BYTES = tuple(size << power for power in range(12) for size in (48, 64))
_SCRUB_ROUNDS = 2
_SCRUB_MAX_VALUES = 200
_SCRUB_EXPIRE_S = 10


@dataclass(frozen=True)
class ValkeySettings:
    """How the shared tier is reached.

    Attributes:
        url: `valkey://host:port/db`, `valkeys://...` (TLS), the same with `redis`, or `unix:///path`.
        max_wait_ms: how long a lookup waits for the server before it is a miss.
        erase_wait_ms: how long an erasure waits; it must be done, or be known not to be.
        time_to_live_s: how long the server keeps a record.
        tombstone_s: how long an erased content is kept from coming back by a writer in flight.
        max_queue_bytes: how many bytes of puts may wait for the server.
        max_failures: failed calls in a row after which the server is left alone.
        min_retry_s: for how long at first.
        max_retry_s: and at most.
    """

    url: str
    max_wait_ms: int = 20
    erase_wait_ms: int = 2000
    time_to_live_s: int = 7 * 24 * 3600
    tombstone_s: int = 3600
    max_queue_bytes: int = 32 << 20
    max_failures: int = 3
    min_retry_s: float = 0.5
    max_retry_s: float = 30.0


@dataclass(frozen=True)
class _Put:
    space: SpaceKey
    names: list[bytes]
    records: npt.NDArray[np.uint8]
    asked_at: AskedAt
    stored: Future[None]


class ValkeyTier:
    """Records in a Valkey (or Redis) server that many machines share. Thread-safe.

    A server that is slow, dead or wrong costs a lookup `max_wait_ms` a few times, then nothing: it is a miss. Nothing
    here is the only copy of anything.
    """

    def __init__(self, settings: ValkeySettings) -> None:
        """Prepare the connections; the server need not be there.

        Raises:
            CacheRequestError: the URL can't be read.
            ImportError: the `redis` package is missing; it comes with `embedder[valkey]`.
        """
        import redis

        self._settings = settings
        self._failures = (redis.RedisError, OSError)
        self._client = _connect(settings.url, max_wait_ms=settings.max_wait_ms)
        self._patient_client = _connect(settings.url, max_wait_ms=settings.erase_wait_ms)
        self._breaker = CircuitBreaker(
            max_failures=settings.max_failures, min_wait_s=settings.min_retry_s, max_wait_s=settings.max_retry_s
        )
        self._queue: queue.SimpleQueue[_Put | None] = queue.SimpleQueue()
        self._queue_lock = threading.Lock()
        self._queued_bytes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._store_queued, name="embedder-cache-valkey", daemon=True)
        self._thread.start()

    @property
    def is_available(self) -> bool:
        """Whether the server answered lately."""
        return not self._breaker.is_open

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look n packed content hashes up; whatever goes wrong is a miss. See `CacheTier`."""
        asked_at = time.time()
        keys = pack_keys(space.prefix, hashes)
        layout = RecordLayout(space.dim)
        records = np.zeros((len(keys), layout.record_bytes), np.uint8)
        if len(keys) and self._breaker.allow():
            try:
                for start, values in self._fetch(keys):
                    for row, value in enumerate(values, start):
                        if value is not None and len(value) == layout.record_bytes:
                            records[row] = np.frombuffer(value, np.uint8)
            except self._failures as error:
                self._note_failure(error)
            else:
                self._breaker.note_success()
        found = layout.check(records, keys)
        records[~found] = 0
        return Lookup(layout.vectors(records), found, asked_at)

    def _fetch(self, keys: npt.NDArray[np.uint8]) -> Iterator[tuple[int, list[Any]]]:
        names = _names(keys)
        for start in range(0, len(names), _COMMAND_KEYS):
            values: list[Any] = self._client.mget(names[start : start + _COMMAND_KEYS])
            yield start, values

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
        if not self._breaker.allow():
            put.stored.set_exception(TierUnavailable("the shared tier is left alone after repeated failures"))
            return
        try:
            erased_at = self._client.get(_ERASED + put.space.prefix)
            alive = np.broadcast_to(erased_at is None or float(erased_at) < np.asarray(put.asked_at), len(put.names))
            names, records = (
                [name for name, is_alive in zip(put.names, alive, strict=True) if is_alive],
                put.records[alive],
            )
            for start in range(0, len(names), _COMMAND_KEYS):
                self._set_new(names[start : start + _COMMAND_KEYS], records[start : start + _COMMAND_KEYS])
        except self._failures as error:
            self._note_failure(error)
            put.stored.set_exception(TierUnavailable(f"the shared tier failed: {error}"))
        else:
            self._breaker.note_success()
            put.stored.set_result(None)

    def _set_new(self, names: list[bytes], records: npt.NDArray[np.uint8]) -> None:
        """Set what is not there: neither a record of another writer, nor a tombstone."""
        pipeline = self._client.pipeline(transaction=False)
        for name, record in zip(names, records, strict=True):
            pipeline.set(name, record.tobytes(), nx=True, ex=self._settings.time_to_live_s)
        pipeline.execute()

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Erase contents; for `tombstone_s` they don't come back. Returns how many were there.

        Raises:
            TierUnavailable: the server did not confirm it.
        """
        names = _names(pack_keys(space.prefix, hashes))
        try:
            return sum(
                self._bury(names[start : start + _COMMAND_KEYS]) for start in range(0, len(names), _COMMAND_KEYS)
            )
        except self._failures as error:
            self._note_failure(error)
            raise TierUnavailable(f"the shared tier did not confirm the erasure: {error}") from error

    def erase_space(self, space: SpaceKey) -> int:
        """Erase a whole space of one tenant; returns how many records it had.

        Raises:
            TierUnavailable: the server did not confirm it.
        """
        client = self._patient_client
        erased = 0
        try:
            client.set(_ERASED + space.prefix, repr(time.time()), ex=self._settings.tombstone_s)
            pattern = _NAMESPACE + _escape(space.prefix) + b"*"
            held = [
                name for name in client.scan_iter(match=pattern, count=1000) if len(name) == len(_NAMESPACE) + KEY_BYTES
            ]
            for start in range(0, len(held), _COMMAND_KEYS):
                erased += self._bury(held[start : start + _COMMAND_KEYS])
        except self._failures as error:
            self._note_failure(error)
            raise TierUnavailable(f"the shared tier did not confirm the erasure: {error}") from error
        return erased

    def _bury(self, names: list[bytes]) -> int:
        """Overwrite records with zeros where they lie in the server's memory, then put tombstones in their place."""
        client = self._patient_client
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

    def compact(self) -> None:
        """Overwrite what the server's buffers and freed memory may still hold of erased records.

        Replies and commands lie in buffers of our connections until something else does, and freed memory is not wiped;
        zeros of many sizes take their place. That reaches what this process had a hand in, as far as was measured; the
        buffers of other machines' connections, the server's replicas and its files are the operator's.

        Raises:
            TierUnavailable: the server did not confirm it.
        """
        client = self._patient_client
        try:
            for connected in (self._client, client):
                self._echo_zeros(connected)
                connected.connection_pool.disconnect()
            for _ in range(_SCRUB_ROUNDS):
                client.ping()  # by then the server has freed what the closed connections held
                self._fill_with_zeros(client)
                self._echo_zeros(client)
            client.memory_purge()
        except self._failures as error:
            self._note_failure(error)
            raise TierUnavailable(f"the shared tier did not confirm the compaction: {error}") from error

    def _echo_zeros(self, client: redis.Redis) -> None:
        for size in _SCRUB_BYTES:
            client.echo(bytes(size).decode())

    def _fill_with_zeros(self, client: redis.Redis) -> None:
        """Let zeros lie in freed memory of every size for a moment."""
        names = []
        pipeline = client.pipeline(transaction=False)
        for size in _SCRUB_BYTES:
            for number in range(min(_SCRUB_MAX_VALUES, 1 + _SCRUB_BYTES[-1] // size)):
                names.append(_SCRUB + b"%d:%d" % (size, number))
                pipeline.set(names[-1], bytes(size), ex=_SCRUB_EXPIRE_S)
        pipeline.execute()
        client.delete(*names)

    def _note_failure(self, error: BaseException) -> None:
        was_open = self._breaker.is_open
        self._breaker.note_failure()
        if self._breaker.is_open and not was_open:
            _log.warning("the shared tier is left alone for a while: %s", error)

    def close(self) -> None:
        """Store what is queued, as far as the server answers, and close the connections; twice does nothing."""
        with self._queue_lock:
            if self._closed:
                return
            self._closed = True
            self._queue.put(None)
        self._thread.join()
        self._client.close()
        self._patient_client.close()


def _connect(url: str, *, max_wait_ms: int) -> redis.Redis:
    """Make a client that waits no longer than told and does not retry by itself."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    wait_s = max_wait_ms / 1000
    if url.startswith("valkey"):
        url = "redis" + url.removeprefix("valkey")
    options: dict[str, Any] = {"socket_timeout": wait_s, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
    if not url.startswith("unix:"):
        options["socket_connect_timeout"] = wait_s
    try:
        client: redis.Redis = redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise CacheRequestError(f"the URL of the shared tier can't be read: {error}") from error
    return client


def _names(keys: npt.NDArray[np.uint8]) -> list[bytes]:
    return [_NAMESPACE + key for key in key_list(keys)]


def _escape(literal: bytes) -> bytes:
    """Escape the bytes that mean something in a pattern of SCAN."""
    return b"".join(b"\\" + bytes([byte]) if byte in _GLOB_SPECIAL else bytes([byte]) for byte in literal)
