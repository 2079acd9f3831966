"""Start, health, guard and drain of a service."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from embedder import errors
from embedder.config import ServeSettings, load_settings
from embedder.errors import ConfigurationError
from embedder.media.limits import MediaLimits
from embedder.server.error_table import TABLE, row_of, to_status
from embedder.server.service import SERVICE_NAMES, Service
from embedder_cache import errors as cache_errors
from embedder_client import Client, ClientSettings
from embedder_client import errors as client_errors
from embedder_heads import errors as head_errors

from .conftest import Running

# Settings of how the service works, which no content and no call is held against.
_NOT_OF_CONTENTS = {"max_batch_tokens", "max_batch_images", "max_inline_pixels"}
LOCALHOST_TLS = Path(__file__).resolve().parents[1] / "client/localhost_tls"


def test_every_service_is_healthy_by_the_stock_protocol(running: Running) -> None:
    with grpc.insecure_channel(running.target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICE_NAMES):
            status = stub.Check(health_pb2.HealthCheckRequest(service=name)).status
            assert status == health_pb2.HealthCheckResponse.SERVING


def test_reflection_lists_every_service(running: Running) -> None:
    with grpc.insecure_channel(running.target) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert set(SERVICE_NAMES) <= set(database.get_services())
        assert database.FindFileContainingSymbol("embedder.v1.EmbeddingService").package == "embedder.v1"


def test_port_in_use_is_a_clear_error(running: Running, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="can't be bound"):
        Service(load_settings(listen_address=running.target, data_dir=tmp_path)).start()


def test_calls_are_refused_until_the_service_is_ready_and_health_says_so(tmp_path: Path) -> None:
    service = Service(load_settings(listen_address="127.0.0.1:0", data_dir=tmp_path, drain_grace_ms=0))
    service._set_health(health_pb2.HealthCheckResponse.NOT_SERVING)
    server = service._bind()
    try:
        with Client(service.address, settings=ClientSettings(retry_attempts=1)) as client:
            with pytest.raises(client_errors.ConnectionFailed, match="is starting"):
                client.embed(["too early"])
            with grpc.insecure_channel(service.address) as channel:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
                assert answer.status == health_pb2.HealthCheckResponse.NOT_SERVING
    finally:
        server.stop(0).wait()
        service._close(grace_s=0)


def test_bearer_token_is_asked_of_every_call_but_health(tmp_path: Path) -> None:
    service = Service(load_settings(listen_address="127.0.0.1:0", data_dir=tmp_path, bearer_token="right"))
    server = service._bind()
    try:
        with Client(service.address, settings=ClientSettings(retry_attempts=1, bearer_token="wrong")) as client:
            with pytest.raises(client_errors.Unauthenticated, match="Bearer"):
                client.embed(["x"])
            with pytest.raises(client_errors.Unauthenticated, match="Bearer"):
                list(client.embed_stream([["x"]]))
        with Client(service.address, settings=ClientSettings(retry_attempts=1, bearer_token="right")) as client:
            with pytest.raises(client_errors.ConnectionFailed, match="is starting"):
                client.embed(["x"])
        with grpc.insecure_channel(service.address) as channel:
            health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    finally:
        server.stop(0).wait()
        service._close(grace_s=0)


def test_tls_is_served_with_the_given_certificate(tmp_path: Path) -> None:
    certificate, key = LOCALHOST_TLS / "cert.pem", LOCALHOST_TLS / "key.pem"
    settings = load_settings(
        listen_address="localhost:0", data_dir=tmp_path, bearer_token="right", tls_certificate=certificate, tls_key=key
    )
    service = Service(settings)
    server = service._bind()
    try:
        trusting = ClientSettings(
            retry_attempts=1, bearer_token="right", tls_root_certificates=certificate.read_bytes()
        )
        with (
            Client(service.address, settings=trusting) as client,
            pytest.raises(client_errors.ConnectionFailed, match="is starting"),
        ):
            client.embed(["x"])
        with (
            Client(service.address, settings=ClientSettings(retry_attempts=1, timeout_s=5)) as client,
            pytest.raises(client_errors.EmbedderClientError),
        ):
            client.embed(["x"])
    finally:
        server.stop(0).wait()
        service._close(grace_s=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"listen_address": "0.0.0.0:50051"}, "insecure-listen"),
        ({"tls_certificate": "server.pem"}, "go together"),
        ({"space": "no version"}, "NAME@VERSION"),
        ({"cache_limit_bytes": "lots"}, "cache_limit_bytes"),
        ({"max_callz": 3}, "max_callz"),
    ],
)
def test_wrong_setting_is_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_settings(**given)


def test_flags_win_over_the_environment_and_the_environment_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "embedder.toml"
    file.write_text('max_calls = 10\nmax_items_per_call = 10\nmax_batch_tokens = 100\ncache_limit_bytes = "1 GiB"\n')
    monkeypatch.setenv("EMBEDDER_MAX_CALLS", "20")
    monkeypatch.setenv("EMBEDDER_MAX_ITEMS_PER_CALL", "20")
    settings = load_settings(["--config", str(file), "--max-calls", "30"])
    assert (settings.max_calls, settings.max_items_per_call, settings.max_batch_tokens) == (30, 20, 100)
    assert settings.cache_limit_bytes == 1 << 30


def test_limits_and_spaces_are_told(running: Running) -> None:
    with Client(running.target) as client:
        limits = client.limits()
        assert limits["max_text_bytes"] == 64 << 10
        of_media = {field.name for field in fields(MediaLimits)}
        of_calls = {name for name in ServeSettings.model_fields if name.startswith("max_")} - _NOT_OF_CONTENTS
        assert of_media | of_calls <= limits.keys()
        spaces = client.spaces()
        assert spaces.aliases == {"default": "default@1"}
        assert spaces.spaces[0].dim == 384
        assert {"text", "image"} <= set(spaces.spaces[0].modalities)
        assert spaces.spaces[0].identity
        assert client.cache_stats().limit_bytes == 64 << 20
        assert spaces.spaces[0].state == "serving"
        assert not spaces.unserved


def test_deleted_content_is_computed_again(running: Running) -> None:
    from embedder_client import ItemSource, hash_text

    with Client(running.target) as client:
        client.embed(["forget me"], durable=True)
        assert client.delete([hash_text("forget me")]) == 1
        assert client.delete([hash_text("forget me")]) == 0
        assert client.embed(["forget me"]).sources == [ItemSource.COMPUTED]


def _types(module: object, root: type[Exception]) -> list[type[Exception]]:
    return [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, root)]


def test_every_exception_has_a_row_in_the_error_table() -> None:
    roots = (
        (errors, errors.EmbedderError),
        (cache_errors, cache_errors.CacheError),
        (head_errors, head_errors.HeadError),
    )
    missing = [kind.__name__ for module, root in roots for kind in _types(module, root) if kind not in TABLE]
    assert not missing


def test_defects_do_not_tell_their_words_to_callers() -> None:
    assert row_of(RuntimeError("secret path")).code is grpc.StatusCode.INTERNAL
    assert "secret" not in to_status(RuntimeError("secret path")).message


def test_overload_carries_the_time_to_come_back_twice() -> None:
    from embedder.server.error_table import ErrorStatus

    trailers = dict(ErrorStatus(errors.Overloaded("full", retry_after_ms=70)).trailing_metadata)
    assert trailers["grpc-retry-pushback-ms"] == "70"
    assert b"RetryInfo" in trailers["grpc-status-details-bin"]
