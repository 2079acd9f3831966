"""The shared tier on a real Valkey cluster of three nodes: a dead node costs its own third, and no more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from embedder_cache import CacheRequestError, TierUnavailable, space_key
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_client.content_hash import hash_texts
from tests.valkey_cluster import ValkeyCluster, running_cluster

DIM = 64
COUNT = 1_500
SPACE = space_key(b"cluster", bytes(32), DIM)
HASHES = hash_texts(f"text {number}" for number in range(COUNT))
VECTORS = np.random.default_rng(3).standard_normal((COUNT, DIM)).astype(np.float16)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyCluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
def tier(cluster: ValkeyCluster) -> Iterator[ValkeyTier]:
    made = ValkeyTier(ValkeySettings(cluster.url, max_wait_ms=1000, max_failures=2, min_retry_s=0.1, max_retry_s=0.2))
    made._servers.look(patiently=True)
    for node in made._servers.nodes():
        node.client.flushall()
    yield made
    made.close()


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_records_lie_on_every_node_and_come_back_in_order(tier: ValkeyTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(30)
    held = [node.client.dbsize() for node in tier._servers.nodes()]
    assert len(held) == 3
    assert sum(held) == COUNT
    assert all(COUNT / 4 < count < COUNT / 2 for count in held)
    lookup = tier.get_many(SPACE, HASHES)
    assert lookup.found.all()
    assert np.array_equal(lookup.vectors, VECTORS)


def test_one_node_that_answers_is_enough_to_find_the_others(cluster: ValkeyCluster) -> None:
    *_, last = cluster.url.split(",")
    tier = ValkeyTier(ValkeySettings(f"valkey+cluster://127.0.0.1:1,{last}", max_wait_ms=1000))
    tier.put_many(SPACE, HASHES, VECTORS).result(30)
    assert tier.get_many(SPACE, HASHES).found.all()
    tier.close()


def test_dead_node_costs_its_third_and_comes_back(cluster: ValkeyCluster, tier: ValkeyTier) -> None:
    tier.put_many(SPACE, HASHES, VECTORS).result(30)
    cluster.kill(1)
    lookup = tier.get_many(SPACE, HASHES)
    assert COUNT / 2 < lookup.found.sum() < COUNT * 3 / 4
    assert np.array_equal(lookup.vectors[lookup.found], VECTORS[lookup.found])
    assert tier.is_available
    for _ in range(5):
        assert np.array_equal(tier.get_many(SPACE, HASHES).found, lookup.found), "the others are found as before"
    with pytest.raises(TierUnavailable, match="did not confirm"):
        tier.delete_many(SPACE, HASHES)
    assert not tier.get_many(SPACE, HASHES).found.any(), "what could be erased is"

    cluster.start(1)
    late = hash_texts(f"late {number}" for number in range(COUNT))

    def is_whole() -> bool:
        try:
            tier.put_many(SPACE, late, VECTORS).result(30)
        except TierUnavailable:
            return False
        return bool(tier.get_many(SPACE, late).found.all())

    wait_until(is_whole)


def test_slots_that_move_are_followed(tier: ValkeyTier) -> None:
    """As when nodes are added: the cluster says MOVED, and is looked at again."""
    tier.put_many(SPACE, HASHES, VECTORS).result(30)
    ids = {}
    for node in tier._servers.nodes():
        node.client.flushall()
        ids[node.client.execute_command("CLUSTER MYID")] = node
    (giver_id, giver), (taker_id, taker) = list(ids.items())[:2]
    slots = giver.client.execute_command("CLUSTER SLOTS")
    (first,) = [first for first, _, primary, *_ in slots if primary[2] == giver_id]
    moved = range(first, first + 100)
    for slot in moved:
        taker.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", giver_id)
        for node in ids.values():
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", taker_id)
    tier.put_many(SPACE, HASHES, VECTORS).result(30)
    wait_until(lambda: bool(tier.get_many(SPACE, HASHES).found.all()))
    for slot in moved:
        giver.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", taker_id)
    for node in ids.values():
        node.client.flushall()
    for slot in moved:
        for node in ids.values():
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", giver_id)


def test_an_erased_space_is_gone_from_every_node(tier: ValkeyTier) -> None:
    neighbour = space_key(b"neighbour", bytes(32), DIM)
    tier.put_many(SPACE, HASHES, VECTORS).result(30)
    tier.put_many(neighbour, HASHES, VECTORS).result(30)
    assert tier.erase_space(SPACE) == COUNT
    tier.compact()
    assert not tier.get_many(SPACE, HASHES).found.any()
    assert tier.get_many(neighbour, HASHES).found.all()


def test_a_cluster_that_is_not_there_is_a_miss(tmp_path: Path) -> None:
    tier = ValkeyTier(ValkeySettings("valkey+cluster://127.0.0.1:1,127.0.0.1:2", max_failures=1, min_retry_s=60))
    for _ in range(3):
        assert not tier.get_many(SPACE, HASHES).found.any()
    with pytest.raises(TierUnavailable):
        tier.put_many(SPACE, HASHES, VECTORS).result(5)
    for erase in (lambda: tier.delete_many(SPACE, HASHES), lambda: tier.erase_space(SPACE), tier.compact):
        with pytest.raises(TierUnavailable):
            erase()
    tier.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("valkey://a:6379,b:6379/0", "valkey\\+cluster://"),
        ("valkey+cluster://a:6379,b", "'b' is no host:port"),
        ("valkey+cluster://a:6379/3", "without a database"),
        ("http+cluster://a:6379", "valkey\\+cluster"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused(url: str, words: str) -> None:
    with pytest.raises(CacheRequestError, match=words):
        ValkeyTier(ValkeySettings(url))
