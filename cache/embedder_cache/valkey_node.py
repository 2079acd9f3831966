"""One Valkey server: two clients of it, one that waits and one that does not, and its circuit breaker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from embedder_cache.breaker import CircuitBreaker
from embedder_cache.errors import CacheRequestError, TierUnavailable
from embedder_cache.valkey_settings import ValkeySettings

if TYPE_CHECKING:
    import redis

_log = logging.getLogger(__name__)

Answer = TypeVar("Answer")

_SCRUB = "embedder:scrub:"
_SCRUB_BYTES = tuple(size << power for power in range(12) for size in (48, 64))
_SCRUB_ROUNDS = 2
_SCRUB_MAX_VALUES = 200
_SCRUB_EXPIRE_S = 10


class SlotMoved(TierUnavailable):
    """A node of a cluster does not hold these keys, or not now: the cluster has to be looked at again."""


class ValkeyNode:
    """One server. Thread-safe.

    Attributes:
        host: its name, without the port; empty for a socket.
        slot_tag: what between braces makes a name lie on this node of a cluster; empty for a server of its own.
    """

    def __init__(self, url: str, settings: ValkeySettings) -> None:
        """Prepare the connections; the server need not be there.

        Raises:
            CacheRequestError: the URL can't be read.
            ImportError: the `redis` package is missing.
        """
        import redis

        self.host = urlsplit(url).netloc.rpartition("@")[2].rpartition(":")[0]
        self.slot_tag = ""
        self._failures = (redis.RedisError, OSError)
        exceptions = redis.exceptions
        self._moves = (
            exceptions.MovedError,
            exceptions.AskError,
            exceptions.ClusterDownError,
            exceptions.TryAgainError,
        )
        self.client = _connect(url, max_wait_ms=settings.max_wait_ms)
        self._patient_client = _connect(url, max_wait_ms=settings.erase_wait_ms)
        self.breaker = CircuitBreaker(
            max_failures=settings.max_failures, min_wait_s=settings.min_retry_s, max_wait_s=settings.max_retry_s
        )

    def ask(self, action: Callable[[redis.Redis], Answer]) -> Answer:
        """Do something quickly, unless the server is left alone.

        Raises:
            SlotMoved: the keys lie elsewhere.
            TierUnavailable: the server did not answer, or is left alone.
        """
        if not self.breaker.allow():
            raise TierUnavailable("the shared tier is left alone after repeated failures")
        answer = self._try(action, self.client)
        self.breaker.note_success()
        return answer

    def ask_patiently(self, action: Callable[[redis.Redis], Answer]) -> Answer:
        """Do something that must be done, whatever the breaker says.

        Raises:
            SlotMoved: the keys lie elsewhere.
            TierUnavailable: the server did not answer.
        """
        return self._try(action, self._patient_client)

    def _try(self, action: Callable[[redis.Redis], Answer], client: redis.Redis) -> Answer:
        try:
            return action(client)
        except self._moves as error:
            raise SlotMoved(f"the shared tier is moving its keys: {error}") from error
        except self._failures as error:
            was_open = self.breaker.is_open
            self.breaker.note_failure()
            if self.breaker.is_open and not was_open:
                _log.warning("a server of the shared tier is left alone for a while: %s", error)
            raise TierUnavailable(f"the shared tier failed: {error}") from error

    def get(self, names: Sequence[bytes]) -> list[Any]:
        """Return what lies under these names, None where nothing does; see `ask`."""
        if not self.slot_tag:
            found: list[Any] = self.ask(lambda client: client.mget(names))
            return found

        def get_each(client: redis.Redis) -> list[Any]:
            # MGET takes the keys of one slot only, and 512 keys lie in about as many.
            pipeline = client.pipeline(transaction=False)
            for name in names:
                pipeline.get(name)
            values: list[Any] = pipeline.execute()
            return values

        return self.ask(get_each)

    def scrub(self) -> None:
        """Overwrite what buffers and freed memory may still hold with zeros of many sizes; see `ask_patiently`."""
        self.ask_patiently(lambda _: self._let_go(self.client))
        self.ask_patiently(self._scrub)

    def _scrub(self, client: redis.Redis) -> None:
        self._let_go(client)
        for _ in range(_SCRUB_ROUNDS):
            client.ping()  # by then the server has freed what the closed connections held
            self._fill_with_zeros(client)
            _echo_zeros(client)
        client.memory_purge()

    def _let_go(self, client: redis.Redis) -> None:
        _echo_zeros(client)
        client.connection_pool.disconnect()

    def _fill_with_zeros(self, client: redis.Redis) -> None:
        """Let zeros lie in freed memory of every size for a moment."""
        names = []
        pipeline = client.pipeline(transaction=False)
        for size in _SCRUB_BYTES:
            for number in range(min(_SCRUB_MAX_VALUES, 1 + _SCRUB_BYTES[-1] // size)):
                names.append(f"{_SCRUB}{{{self.slot_tag}}}{size}:{number}")
                pipeline.set(names[-1], bytes(size), ex=_SCRUB_EXPIRE_S)
        pipeline.execute()
        client.delete(*names)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()
        self._patient_client.close()


def _echo_zeros(client: redis.Redis) -> None:
    for size in _SCRUB_BYTES:
        client.echo(bytes(size).decode())


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
