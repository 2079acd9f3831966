"""A client of several replicas: every content goes home, and elsewhere once its home is gone."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from embedder_client import AsyncClient, Client, ClientSettings, Post, errors, hash_text, hash_texts
from embedder_client.content_hash import HASH_BYTES
from embedder_client.homes import Home, Homes
from embedder_client.plans import EVERYWHERE, Rpc
from embedder_client.replica_addresses import ReplicaAddress, find_replicas
from embedder_client.ring import HashRing
from embedder_client.v1 import admin_service_pb2

from .conftest import ADDERS, TLS, BlockingAsyncClient, ScriptedServer, digest_of, vector_of

TEXTS = [f"text {number}" for number in range(200)]
HEALTHY = health_pb2.HealthCheckResponse.SERVING
DRAINING = health_pb2.HealthCheckResponse.NOT_SERVING


class ScriptedReplica(ScriptedServer):
    """One of several scripted services, with health and a cache's id, which can be stopped and started again."""

    def __init__(self, cache_id: str, credentials: grpc.ServerCredentials | None = None) -> None:
        super().__init__()
        self.cache_id = cache_id
        self.health = health.HealthServicer()
        self._credentials = credentials
        self._listening: grpc.Server | None = None
        self.scripts["GetLimits"] = lambda request, context: admin_service_pb2.GetLimitsResponse(cache_id=self.cache_id)
        self.start()

    def start(self) -> None:
        """Listen, where it listened before if it did."""
        self._executor = ThreadPoolExecutor(8)
        self._listening = grpc.server(self._executor)
        for add_to_server in ADDERS:
            add_to_server(self, self._listening)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._listening)
        address = f"127.0.0.1:{self.port}"
        if self._credentials is None:
            self.port = self._listening.add_insecure_port(address)
        else:
            self.port = self._listening.add_secure_port(address, self._credentials)
        self._listening.start()

    def stop(self) -> None:
        """End at once: calls under way end too."""
        self._listening.stop(None).wait()
        self._executor.shutdown()

    @property
    def asked(self) -> set[bytes]:
        """The content hashes that it was asked to embed."""
        return {digest_of(content) for request in self.requests("Embed") for content in request.contents}


@pytest.fixture
def replicas() -> Iterator[list[ScriptedReplica]]:
    started = [ScriptedReplica(f"cache {number}") for number in range(3)]
    yield started
    for replica in started:
        replica.stop()


@dataclass
class Opener:
    """Opens clients of either kind on replicas."""

    kind: str
    runner: asyncio.Runner
    opened: list[Any]

    def __call__(self, replicas: list[ScriptedReplica], target: str = "", **options: Any) -> Any:
        target = target or "ipv4:" + ",".join(f"127.0.0.1:{replica.port}" for replica in replicas)
        settings = ClientSettings(**{"health_interval_s": 0.05, **options})
        if self.kind == "blocking":
            client: Any = Client(target, locality=True, settings=settings)
        else:
            client = BlockingAsyncClient(AsyncClient(target, locality=True, settings=settings), self.runner)
        self.opened.append(client)
        return client


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Opener]:
    with asyncio.Runner() as runner:
        opener = Opener(request.param, runner, [])
        yield opener
        for client in opener.opened:
            client.close()
    gc.collect()  # gRPC's asyncio thread ends when its last channel is freed, and asyncio keeps errors in cycles.


def embed_until(client: Any, is_so: Callable[[], bool]) -> None:
    """Embed until a condition holds; each call must succeed."""
    deadline = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < deadline
        assert not client.embed(TEXTS[:20]).failures


def test_each_content_goes_home_and_rows_come_in_order(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas)
    result = client.embed(TEXTS, dtype="float32")
    assert np.array_equal(result.vectors, np.stack([vector_of(hash_text(text)) for text in TEXTS]))
    shares = [replica.asked for replica in replicas]
    assert all(shares)
    assert sum(map(len, shares)) == len(TEXTS), "no content goes to two"
    client.embed(TEXTS[::-1])
    assert [replica.asked for replica in replicas] == shares, "each goes where it went before"


def test_every_batch_call_goes_home(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas)
    client.embed(TEXTS)
    homes = [replica.asked for replica in replicas]
    for replica in replicas:
        replica.held |= {hash_text(text) for text in TEXTS[:100]}
    found = client.lookup([hash_text(text) for text in TEXTS], dtype="float32")
    assert found.found.tolist() == [True] * 100 + [False] * 100
    assert np.array_equal(found.vectors[:100], np.stack([vector_of(hash_text(text)) for text in TEXTS[:100]]))
    for replica, home in zip(replicas, homes, strict=True):
        packed = b"".join(request.content_hashes for request in replica.requests("Lookup"))
        assert {packed[start : start + 32] for start in range(0, len(packed), 32)} == home

    scored = client.predict(TEXTS, heads=["topic"])
    alone = [client.predict([text], heads=["topic"])["topic"].scores[0] for text in TEXTS[:10]]
    assert np.array_equal(scored["topic"].scores[:10], alone)
    packed_scores = client.predict(TEXTS, heads=["topic"], packed_scores=True)
    assert np.array_equal(packed_scores["topic"].scores, scored["topic"].scores)
    by_hash = client.predict(hashes=hash_texts(TEXTS[:100]), heads=["topic"], include_vectors=True)
    assert np.array_equal(by_hash["topic"].scores, scored["topic"].scores[:100])
    assert np.array_equal(by_hash.vectors, found.vectors[:100].astype(np.float16))

    results = client.retrieve("docs", TEXTS).results
    assert [hits[0].id for hits in results] == [f"{text}-0" for text in TEXTS]


def test_failed_item_keeps_its_position(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas)
    for position in (0, 57, 99):
        texts = [*TEXTS[:position], "", *TEXTS[position:99]]
        result = client.embed(texts)
        assert [failure.index for failure in result.failures] == [position]
        assert client.predict(texts, heads=["topic"]).failures[0].index == position


def test_stream_gives_a_result_for_each_batch_in_order(replicas: list[ScriptedReplica], connect: Opener) -> None:
    batches = [TEXTS[start : start + 20] for start in range(0, 200, 20)]
    results = list(connect(replicas).embed_stream(batches, dtype="float32"))
    for batch, result in zip(batches, results, strict=True):
        assert np.array_equal(result.vectors, np.stack([vector_of(hash_text(text)) for text in batch]))
    assert all(request.lane == 2 for replica in replicas for request in replica.requests("Embed")), "bulk"


def test_part_of_a_dead_replica_goes_on_elsewhere_and_the_rest_stays(
    replicas: list[ScriptedReplica], connect: Opener
) -> None:
    client = connect(replicas)
    client.embed(TEXTS)
    homes = [replica.asked for replica in replicas]
    replicas[1].stop()
    for _ in range(5):
        assert not client.embed(TEXTS).failures
    assert replicas[0].asked >= homes[0]
    assert replicas[2].asked >= homes[2]
    assert replicas[0].asked | replicas[2].asked == set.union(*homes)
    assert not replicas[0].asked & homes[2]
    assert not replicas[2].asked & homes[0]

    replicas[1].calls.clear()
    replicas[1].start()
    embed_until(client, lambda: bool(replicas[1].calls) and bool(replicas[1].requests("Embed")))
    client.embed(TEXTS)
    assert replicas[1].asked == homes[1], "it is home again"


def test_replica_that_drains_gets_no_more_calls(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas)
    client.embed(TEXTS)
    replicas[0].health.set("", DRAINING)

    def is_left_alone() -> bool:
        replicas[0].calls.clear()
        client.embed(TEXTS)
        return not replicas[0].requests("Embed")

    embed_until(client, is_left_alone)
    replicas[0].health.set("", HEALTHY)
    embed_until(client, lambda: bool(replicas[0].requests("Embed")))


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
def test_call_that_a_replica_turns_away_is_answered_by_another(
    replicas: list[ScriptedReplica], connect: Opener, code: grpc.StatusCode
) -> None:
    for rpc in ("Embed", "Lookup", "Predict", "Score", "Retrieve", "Recommend"):
        replicas[2].scripts[rpc] = lambda request, context: context.abort(code, "shutting down")
    client = connect(replicas)
    assert not client.embed(TEXTS).failures
    assert len(client.lookup([hash_text(text) for text in TEXTS])) == len(TEXTS)
    assert len(client.predict(TEXTS, heads=["topic"])) == len(TEXTS)
    assert len(client.retrieve("docs", TEXTS)) == len(TEXTS)
    for text in TEXTS[:20]:
        assert len(client.score(text, ids=["a"], index="docs")) == 1
        assert client.recommend("docs", history=[text]).hits


def test_answer_that_was_not_begun_is_given_by_another(replicas: list[ScriptedReplica], connect: Opener) -> None:
    for replica in replicas[:2]:
        replica.scripts["Answer"] = lambda request, context: context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
    client = connect(replicas)
    for question in ("one two", "three four", "five six"):
        assert [piece.text for piece in client.answer("docs", question)][:2] == question.split()


def test_upload_goes_home_and_is_sent_anew_elsewhere(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas, upload_over_bytes=1_000)
    images = [bytes([number]) * 2_000 for number in range(6)]

    def refuse(requests: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")

    replicas[0].scripts["EmbedUpload"] = refuse
    result = client.embed(images)
    assert not result.failures
    uploaded = [call.request.content_hash for replica in replicas for call in replica.calls if call.rpc == "Uploaded"]
    assert len(uploaded) == len(set(uploaded)) == 6


def test_posts_find_their_large_fields_where_they_are_at_home(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas, upload_over_bytes=1_000)
    image = b"x" * 2_000
    posts = [Post({"title": text, "cover": image}) for text in TEXTS[:20]]
    for replica in replicas:
        replica.scripts["Embed"] = lambda request, context, replica=replica: check_fields(replica, request, context)
    assert not client.embed(posts).failures
    assert all(call.request for replica in replicas for call in replica.calls if call.rpc == "Uploaded")


def check_fields(replica: ScriptedReplica, request: Any, context: grpc.ServicerContext) -> Message:
    for content in request.contents:
        for field in content.post.fields:
            if field.content.WhichOneof("kind") == "content_hash":
                assert field.content.content_hash in replica.held
    return replica.honest("Embed", request, context)


def test_what_changes_the_service_reaches_every_replica(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas)
    assert client.delete([hash_text("a"), hash_text("b")]) == 6
    assert client.set_alias("live", "default@2") == "live@0"
    assert all(len(replica.requests("DeleteContents")) == 1 for replica in replicas)
    assert all(len(replica.requests("SetAlias")) == 1 for replica in replicas)
    replicas[0].stop()
    with pytest.raises(errors.ConnectionFailed):
        client.delete([hash_text("a")])


def test_what_is_one_replicas_own_is_refused_with_a_way_out(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas)
    for ask in (client.savings, client.cache_stats):
        with pytest.raises(errors.InvalidRequest, match="one by one"):
            ask()
    assert client.list_heads().heads
    assert client.spaces().spaces


def test_overloaded_home_is_waited_for(replicas: list[ScriptedReplica], connect: Opener) -> None:
    arrivals: list[float] = []

    def refuse_first(request: Any, context: grpc.ServicerContext) -> Any:
        arrivals.append(time.monotonic())
        if len(arrivals) == 1:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "100"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return replicas[0].honest("Embed", request, context)

    replicas[0].scripts["Embed"] = refuse_first
    assert not connect(replicas).embed(TEXTS).failures
    assert len(arrivals) == 2
    assert arrivals[1] - arrivals[0] >= 0.1


def test_all_replicas_away_for_a_moment_is_survived(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas, timeout_s=30)
    client.embed(TEXTS)
    for replica in replicas:
        replica.stop()
    back = threading.Timer(0.3, lambda: [replica.start() for replica in replicas])
    back.start()
    assert not client.embed(TEXTS).failures
    back.join()


def test_all_replicas_away_for_good_is_a_failed_connection(replicas: list[ScriptedReplica], connect: Opener) -> None:
    client = connect(replicas, retry_attempts=2)
    for replica in replicas:
        replica.stop()
    with pytest.raises(errors.ConnectionFailed, match="no answer from ipv4:"):
        client.embed(TEXTS)
    with pytest.raises(errors.ConnectionFailed):
        connect(replicas, retry_attempts=1).embed(TEXTS)
    for replica in replicas:
        replica.start()


def test_calls_to_a_replica_that_hangs_go_on_elsewhere(replicas: list[ScriptedReplica], connect: Opener) -> None:
    """Its machine is gone without a word: health checks stay unanswered, and so does the call."""
    client = connect(replicas, timeout_s=60)
    client.embed(TEXTS)
    replicas[0].hang_from_now("Embed")
    answered = threading.Event()

    def hang(request: Any, context: grpc.ServicerContext) -> Any:
        answered.wait(30)
        return health_pb2.HealthCheckResponse(status=DRAINING)

    replicas[0].health.Check = hang
    replicas[0].stop()
    replicas[0].start()
    started = time.monotonic()
    assert not client.embed(TEXTS).failures
    assert time.monotonic() - started < 50
    answered.set()
    replicas[0].gone.set()


def test_replicas_are_known_by_their_caches_wherever_they_are_found(
    replicas: list[ScriptedReplica], connect: Opener
) -> None:
    connect(replicas).embed(TEXTS)
    homes = {replica.cache_id: replica.asked for replica in replicas}
    moved = [ScriptedReplica(replica.cache_id) for replica in replicas]
    connect(moved).embed(TEXTS)
    assert {replica.cache_id: replica.asked for replica in moved} == homes
    for replica in moved:
        replica.stop()


def test_two_replicas_with_the_id_of_one_cache_are_two(replicas: list[ScriptedReplica], connect: Opener) -> None:
    replicas[1].cache_id = replicas[0].cache_id
    client = connect(replicas)
    client.embed(TEXTS)
    assert all(replica.asked for replica in replicas)


def test_names_are_looked_up_and_the_certificate_must_bear_them(connect: Opener) -> None:
    key, certificate = ((TLS / name).read_bytes() for name in ("key.pem", "cert.pem"))
    secured = [ScriptedReplica(f"cache {n}", grpc.ssl_server_credentials([(key, certificate)])) for n in range(2)]
    target = "dns:///" + ",".join(f"localhost:{replica.port}" for replica in secured)
    client = connect(secured, target, tls_root_certificates=certificate, bearer_token="a-token")
    assert not client.embed(TEXTS).failures
    assert {call.metadata["authorization"] for replica in secured for call in replica.calls} == {"Bearer a-token"}
    for replica in secured:
        replica.stop()


@pytest.mark.parametrize(
    ("target", "words"),
    [("unix:/run/embedder.sock", "names one place"), ("dns:///embedder", "host:port"), ("a:1,b", "host:port")],
)
def test_target_without_replicas_is_refused_at_once(target: str, words: str) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(errors.InvalidRequest, match=words):
            kind(target, locality=True)


def test_name_that_nobody_knows_is_a_failed_connection(connect: Opener) -> None:
    with pytest.raises(errors.ConnectionFailed, match=r"no-such-host\.invalid"):
        connect([], "dns:///no-such-host.invalid:50051").embed(["a"])


def test_addresses_of_a_static_list_are_taken_as_they_are() -> None:
    assert find_replicas("ipv4:10.0.0.2:50051, 10.0.0.1:50051,10.0.0.2:50051") == [
        ReplicaAddress("ipv4:10.0.0.1:50051"),
        ReplicaAddress("ipv4:10.0.0.2:50051"),
    ]
    assert find_replicas("ipv6:[::1]:50051") == [ReplicaAddress("ipv6:[::1]:50051")]
    assert ReplicaAddress("ipv4:127.0.0.1:7", "localhost") in find_replicas("localhost:7")


def test_every_call_that_changes_something_goes_everywhere() -> None:
    """Whoever adds a method decides: a change that reaches one replica of three is none."""
    changing = {rpc for rpc in Rpc if rpc.startswith(("Set", "Delete", "Create", "Retire", "Cut", "Roll"))}
    assert changing == EVERYWHERE


class TestHashRing:
    """Spreads contents evenly, and moves none that need not move."""

    hashes = np.frombuffer(hash_texts(f"content {number}" for number in range(50_000)), np.uint8).reshape(
        -1, HASH_BYTES
    )

    @pytest.mark.parametrize("replicas", [1, 3, 10, 50])
    def test_shares_are_near_the_mean(self, replicas: int) -> None:
        ring = HashRing([f"cache {number}" for number in range(replicas)])
        shares = np.bincount(ring.homes(self.hashes), minlength=replicas) * replicas / len(self.hashes)
        assert 0.8 < shares.min() <= shares.max() < 1.2

    def test_who_comes_takes_from_all_and_nothing_else_moves(self) -> None:
        before, after = HashRing(["a", "b", "c"]), HashRing(["d", "c", "b", "a"])
        homes = np.array(before.names)[before.homes(self.hashes)]
        homes_after = np.array(after.names)[after.homes(self.hashes)]
        moved = homes != homes_after
        assert set(homes_after[moved]) == {"d"}
        assert set(homes[moved]) == {"a", "b", "c"}
        assert 0.2 < moved.mean() < 0.3

    def test_followers_are_who_would_be_home_without_those_before(self) -> None:
        names = ["a", "b", "c", "d"]
        ring = HashRing(names)
        for row in self.hashes[:50]:
            order = [ring.names[place] for place in ring.followers(row.tobytes())]
            assert sorted(order) == names
            for gone in range(3):
                left = HashRing(order[gone:])
                assert left.names[left.homes(row.reshape(1, -1))[0]] == order[gone]

    def test_crowded_replica_passes_the_rest_on(self) -> None:
        ring = HashRing(["a", "b", "c"])
        homes = ring.homes(self.hashes[:900])
        spread = ring.spread(self.hashes[:900], np.array([100, 500, 500]))
        assert np.bincount(spread).max() <= 500
        assert np.bincount(spread)[0] == 100
        assert (spread[homes != 0] == homes[homes != 0]).all(), "only what was too much has moved"


class TestHomes:
    """Cut a call by home, and keep the load bounded."""

    ring = HashRing(["a", "b", "c"])

    def test_parts_hold_each_position_once(self) -> None:
        parts = Homes(self.ring, in_flight={}, load_factor=1.25).parts(hash_texts(TEXTS))
        assert sorted(np.concatenate([part.positions for part in parts])) == list(range(len(TEXTS)))
        assert all((np.diff(part.positions) > 0).all() for part in parts)

    @pytest.mark.parametrize(("load_factor", "share"), [(1.25, 0), (math.inf, 1)])
    def test_busy_replica_is_passed_over_unless_told_never(self, load_factor: float, share: int) -> None:
        homes = Homes(self.ring, in_flight={"a": 100_000}, load_factor=load_factor)
        assert any(part.name == "a" for part in homes.parts(hash_texts(TEXTS))) == bool(share)

    def test_home_of_one_content_is_that_of_the_batch(self) -> None:
        homes = Homes(self.ring, in_flight={}, load_factor=1.25)
        for part in homes.parts(hash_texts(TEXTS)):
            for position in part.positions:
                key = hash_text(TEXTS[position])
                assert homes.of(key) == Home(part.name, key)
