"""Both fronts, the native one and grpcio's: the same answers, limits, guards and drains."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from embedder.config import load_settings
from embedder.encoders.base import Tokens, Vectors
from embedder.engine.contents import ContentItem, EmbedOptions
from embedder.errors import ConfigurationError
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_client import Client, ClientSettings, hash_text
from embedder_client import errors as client_errors
from embedder_client.v1 import content_pb2, embedding_service_pb2, embedding_service_pb2_grpc

LOCALHOST_TLS = Path(__file__).resolve().parents[1] / "client/localhost_tls"
_QUICK = ClientSettings(client_name="tests", retry_attempts=1, timeout_s=60)


class Front:
    """A service behind one front, and a way to hold its device."""

    def __init__(self, service: Service, runtime: Runtime) -> None:
        self.service = service
        self.runtime = runtime
        self.may_encode = threading.Event()
        self.may_encode.set()
        self.is_encoding = threading.Event()
        encoder = runtime.spaces.resolve("").engine._engine._encoder
        encode: Callable[[list[Tokens]], Vectors] = encoder.encode_texts

        def encode_when_allowed(tokens: list[Tokens]) -> Vectors:
            self.is_encoding.set()
            self.may_encode.wait(30)
            return encode(tokens)

        encoder.encode_texts = encode_when_allowed  # type: ignore[method-assign,assignment]

    @property
    def target(self) -> str:
        return self.service.address


@pytest.fixture(scope="module", params=["native", "grpcio"])
def front(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    settings = load_settings(
        listen_address="127.0.0.1:0",
        server=request.param,
        data_dir=tmp_path_factory.mktemp("service"),
        cache_limit_bytes="64 MiB",
        max_message_bytes="8 MiB",
        bearer_token="secret",
        drain_grace_ms=5_000,
        # Tests hold the device: the engine learns from it that contents take long, and would refuse many at once.
        max_queue_ms=600_000,
    )
    service = Service(settings)
    yield Front(service, service.start())
    service.stop()


@pytest.fixture
def client(front: Front) -> Iterator[Client]:
    with Client(front.target, settings=replace(_QUICK, bearer_token="secret")) as client:
        yield client


def test_hits_misses_and_bad_items_are_answered_in_one_call(client: Client) -> None:
    client.embed(["held"], durable=True)
    reply = client.embed(["held", "new", "  "])
    assert [source.name for source in reply.sources] == ["CACHE", "COMPUTED", "FAILED"]
    assert np.linalg.norm(reply.vectors[:2].astype(np.float32), axis=1) == pytest.approx(1, abs=2e-3)
    assert client.lookup([hash_text("held"), hash_text("unheard of")]).found.tolist() == [True, False]


def test_a_call_without_the_token_is_refused(front: Front) -> None:
    with Client(front.target, settings=_QUICK) as stranger:
        with pytest.raises(client_errors.Unauthenticated, match="authorization"):
            stranger.embed(["mine"])


def test_a_message_over_the_limit_is_refused_and_one_below_is_not(front: Front) -> None:
    request = embedding_service_pb2.EmbedRequest(contents=[content_pb2.Content(text="x" * (250 << 10))] * 24)
    with grpc.insecure_channel(front.target, [("grpc.max_send_message_length", -1)]) as channel:
        embed = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed
        token = (("authorization", "Bearer secret"),)
        assert embed(request, metadata=token, timeout=60).vectors.rows == 24
        request.contents.extend([content_pb2.Content(text="x" * (250 << 10))] * 24)
        with pytest.raises(grpc.RpcError) as refusal:
            embed(request, metadata=token, timeout=60)
        assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_a_wrong_call_carries_its_reason(front: Front) -> None:
    with grpc.insecure_channel(front.target) as channel:
        embed = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed
        with pytest.raises(grpc.RpcError) as refusal:
            embed(embedding_service_pb2.EmbedRequest(), metadata=(("authorization", "Bearer secret"),), timeout=10)
    assert refusal.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert rpc_status.from_call(refusal.value).details[0].Is(error_details_pb2.ErrorInfo.DESCRIPTOR)
    with grpc.insecure_channel(front.target) as channel:
        broken = channel.unary_unary("/embedder.v1.EmbeddingService/Embed")
        with pytest.raises(grpc.RpcError) as garbage:
            broken(b"\xff\xff\xff", metadata=(("authorization", "Bearer secret"),), timeout=10)
    assert garbage.value.code() is grpc.StatusCode.INTERNAL


def test_a_hit_does_not_wait_for_a_miss_that_is_being_started(front: Front, client: Client) -> None:
    engine = front.runtime.spaces.resolve("").engine
    client.embed(["a held text"], durable=True)
    may_start, is_starting = threading.Event(), threading.Event()
    admit = engine._engine._admit

    def admit_when_allowed(items: Sequence[ContentItem], options: EmbedOptions) -> list[float]:
        is_starting.set()
        assert may_start.wait(30)
        return admit(items, options)

    engine._engine._admit = admit_when_allowed  # type: ignore[method-assign]
    try:
        with ThreadPoolExecutor(1) as pool:
            missing = pool.submit(client.embed, ["a text that nobody has embedded"])
            assert is_starting.wait(30)
            assert [source.name for source in client.embed(["a held text"]).sources] == ["CACHE"]
            assert not missing.done()
            may_start.set()
            assert [source.name for source in missing.result().sources] == ["COMPUTED"]
    finally:
        del engine._engine._admit


def test_a_caller_that_leaves_takes_its_work_with_it(front: Front, client: Client) -> None:
    engine = front.runtime.spaces.resolve("").engine
    before = client.savings().total.encodes
    front.is_encoding.clear()
    front.may_encode.clear()
    try:
        with grpc.insecure_channel(front.target) as channel:
            embed = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed
            token = (("authorization", "Bearer secret"),)
            first = embed.future(_request("holds the device"), metadata=token, timeout=30)
            assert front.is_encoding.wait(30)
            second = embed.future(_request("gone before its turn"), metadata=token, timeout=30)
            third = embed.future(_request("too late for its turn"), metadata=token, timeout=1.0)
            _wait_until(lambda: engine.in_flight == 3)
            second.cancel()
            assert _is_late(third)
            front.may_encode.set()
            assert len(first.result().sources) == 1
            _wait_until(lambda: engine.in_flight == 0)
    finally:
        front.may_encode.set()
    assert client.savings().total.encodes == before + 1


def test_hits_are_answered_while_the_device_is_held(front: Front, client: Client) -> None:
    client.embed(["held by the cache"], durable=True)
    front.is_encoding.clear()
    front.may_encode.clear()
    try:
        with grpc.insecure_channel(front.target) as channel:
            embed = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed
            token = (("authorization", "Bearer secret"),)
            waiting = [embed.future(_request(f"waits {n}"), metadata=token, timeout=30) for n in range(200)]
            assert front.is_encoding.wait(30)
            assert [source.name for source in client.embed(["held by the cache"]).sources] == ["CACHE"]
            front.may_encode.set()
            assert all(len(call.result().sources) == 1 for call in waiting)
    finally:
        front.may_encode.set()


@pytest.mark.parametrize("server", ["native", "grpcio"])
def test_draining_answers_what_is_under_way(server: str, tmp_path: Path) -> None:
    settings = load_settings(
        listen_address="127.0.0.1:0",
        server=server,
        data_dir=tmp_path,
        cache_limit_bytes="64 MiB",
        drain_grace_ms=20_000,
    )
    service = Service(settings)
    front = Front(service, service.start())
    front.may_encode.clear()
    with grpc.insecure_channel(front.target) as channel:
        embed = embedding_service_pb2_grpc.EmbeddingServiceStub(channel).Embed
        under_way = embed.future(_request("asked before the end"), timeout=30)
        assert front.is_encoding.wait(30)
        stopping = threading.Thread(target=service.stop)
        stopping.start()
        front.may_encode.set()
        assert len(under_way.result().sources) == 1
        stopping.join(30)
        assert not stopping.is_alive()


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tls_certificate": LOCALHOST_TLS / "cert.pem", "tls_key": LOCALHOST_TLS / "key.pem"}, "TLS"),
        ({"listen_address": "unix:/tmp/nowhere.sock"}, "Unix socket"),
    ],
)
def test_native_front_says_what_it_cannot_do(tmp_path: Path, given: dict[str, object], told: str) -> None:
    settings = load_settings(**{"server": "native", "data_dir": tmp_path, "listen_address": "127.0.0.1:0"} | given)
    with pytest.raises(ConfigurationError, match=told):
        Service(settings).start()


def _request(text: str) -> embedding_service_pb2.EmbedRequest:
    return embedding_service_pb2.EmbedRequest(contents=[content_pb2.Content(text=text)])


def _is_late(call: grpc.Future) -> bool:
    """Whether a call ended by its deadline: as its client saw it, or, where the service was first, as its item's error."""
    if call.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return True
    return call.result().errors[0].status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]


def _wait_until(condition: Callable[[], bool], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.001)
