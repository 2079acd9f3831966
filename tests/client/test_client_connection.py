"""How a client connects, waits, retries and lets go."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from embedder_client import AsyncClient, Client, ClientSettings, __version__, errors
from embedder_client.settings import program_name

TLS = Path(__file__).parent / "localhost_tls"


def overloaded(server: Any, *, times: int, pushback_ms: int) -> list[float]:
    """Script the service to turn the first calls away; returns the list that arrival times go to."""
    arrivals: list[float] = []

    def script(request: Any, context: grpc.ServicerContext) -> Any:
        arrivals.append(time.monotonic())
        if len(arrivals) <= times:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", str(pushback_ms)),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return server.honest("Embed", request, context)

    server.scripts["Embed"] = script
    return arrivals


@pytest.mark.parametrize("size", [10, 2 * 1024 * 1024], ids=["small", "over gRPC's default retry buffer"])
def test_retry_waits_as_long_as_the_service_asks(server: Any, client: Any, size: int) -> None:
    arrivals = overloaded(server, times=2, pushback_ms=150)
    assert len(client.embed([b"x" * size])) == 1
    assert len(arrivals) == 3
    assert all(later - earlier >= 0.15 for earlier, later in itertools.pairwise(arrivals))


def test_overload_that_lasts_ends_in_an_error_after_the_attempts(server: Any, connect: Any) -> None:
    arrivals = overloaded(server, times=99, pushback_ms=10)
    with pytest.raises(errors.Overloaded, match="busy") as caught:
        connect(retry_attempts=3).embed(["a"])
    assert len(arrivals) == 3
    assert caught.value.retry_after_ms == 10


def test_service_that_asks_for_no_retry_gets_none(server: Any, client: Any) -> None:
    arrivals = overloaded(server, times=99, pushback_ms=-1)
    with pytest.raises(errors.Overloaded):
        client.embed(["a"])
    assert len(arrivals) == 1


def test_unavailable_is_retried_without_a_word_from_the_service(server: Any, client: Any) -> None:
    def start_late(request: Any, context: grpc.ServicerContext) -> Any:
        if len(server.calls) == 1:
            context.abort(grpc.StatusCode.UNAVAILABLE, "starting")
        return server.honest("Embed", request, context)

    server.scripts["Embed"] = start_late
    assert len(client.embed(["a"])) == 1
    assert len(server.calls) == 2


def test_stream_that_is_turned_away_at_its_start_is_retried(server: Any, client: Any) -> None:
    attempts = []

    def refuse_first(requests: Any, context: grpc.ServicerContext) -> Any:
        attempts.append(time.monotonic())
        if len(attempts) == 1:
            context.set_trailing_metadata((("grpc-retry-pushback-ms", "50"),))
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
        return server.honest("EmbedStream", requests, context)

    server.scripts["EmbedStream"] = refuse_first
    assert [len(result) for result in client.embed_stream([["a"], ["b", "c"]])] == [1, 2]
    assert len(attempts) == 2


def test_wrong_argument_is_not_retried(server: Any, client: Any) -> None:
    def refuse(request: Any, context: grpc.ServicerContext) -> Any:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "dim=900 exceeds the encoder's 384")

    server.scripts["Embed"] = refuse
    with pytest.raises(errors.InvalidRequest, match="exceeds"):
        client.embed(["a"], dim=900)
    assert len(server.calls) == 1


def test_nobody_listening_is_a_failed_connection(connect: Any) -> None:
    with pytest.raises(errors.ConnectionFailed, match=r"no answer from 127\.0\.0\.1:1"):
        connect("127.0.0.1:1", retry_attempts=1).embed(["a"])


def test_call_without_an_answer_ends_at_its_deadline(server: Any, client: Any) -> None:
    server.hang_from_now("Embed")
    with pytest.raises(errors.DeadlineExceeded, match="in time"):
        client.embed(["a"], timeout_s=0.2)


def test_deadline_of_parts_is_that_of_the_whole_call(server: Any, connect: Any) -> None:
    server.hang_from_now("Embed")
    started = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        connect(max_request_items=1, max_requests_in_flight=1).embed(["a", "b", "c"], timeout_s=0.2)
    assert time.monotonic() - started < 10
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("texts", "options", "expected_s"),
    [
        (1, {}, 10),
        (1, {"lane": "bulk"}, 120),
        (1, {"timeout_s": 3}, 3),
        (600, {}, 30),
        (600, {"timeout_s": 3}, 3),
    ],
)
def test_every_call_has_a_deadline(server: Any, client: Any, texts: int, options: Any, expected_s: float) -> None:
    client.embed([str(number) for number in range(texts)], **options)
    for call in server.calls:
        assert expected_s - 2 < call.time_remaining_s <= expected_s * 1.02  # gRPC rounds long ones up.


def test_who_asks_and_the_token_go_with_every_call(server: Any, connect: Any) -> None:
    client = connect(client_name="ranker", bearer_token="a-token")
    client.embed(["a"])
    list(client.embed_stream([["a"]]))
    list(client.answer("docs", "what is it"))
    calls = [call for call in server.calls if call.rpc != "EmbedStreamRequest"]
    assert len(calls) == 3
    for call in calls:
        assert call.metadata["embedder-client"] == "ranker"
        assert call.metadata["authorization"] == "Bearer a-token"
        assert call.metadata["user-agent"].startswith(f"embedder-client/{__version__} ")


def test_client_is_named_after_its_program_unless_told_otherwise(
    server: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["/opt/tools/nightly-rank.py", "--fast"])
    connect().embed(["a"])
    assert server.calls[0].metadata["embedder-client"] == "nightly-rank"
    assert "authorization" not in server.calls[0].metadata


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("/opt/rank/__main__.py", "rank"),
        ("", "python"),
        ("-c", "python"),
        ("bücher.py", "b_cher"),
        ("embedder-report", "embedder-report"),
    ],
)
def test_program_name_is_printable_ascii(argument: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [argument])
    assert program_name() == name


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "target",
    [
        "embedder.example:50051",
        "dns:///embedder.example:50051",
        "10.0.0.7:1",
        "xds:///localhost",
        "ipv4:127.0.0.1:1,10.0.0.7:1",
    ],
)
def test_token_is_not_sent_in_plaintext_to_another_machine(kind: Any, target: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="in plaintext"):
        kind(target, settings=ClientSettings(bearer_token="a-token"))


@pytest.mark.parametrize(
    "target", ["localhost:50051", "127.0.0.1:1", "[::1]:50051", "dns:///localhost:1", "unix:/run/e"]
)
def test_token_is_sent_in_plaintext_on_the_same_machine(target: str) -> None:
    Client(target, settings=ClientSettings(bearer_token="a-token")).close()


def test_token_may_be_sent_in_plaintext_when_told_so() -> None:
    Client("10.0.0.7:1", settings=ClientSettings(bearer_token="a-token", plaintext_token=True)).close()


def test_settings_do_not_show_the_token() -> None:
    assert "a-token" not in repr(ClientSettings(bearer_token="a-token"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": 0},
        {"bulk_timeout_s": float("nan")},
        {"max_request_items": 0},
        {"max_requests_in_flight": 0},
        {"retry_attempts": 6},
        {"bearer_token": "line\nbreak"},
        {"client_name": "büro"},
    ],
)
def test_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.InvalidRequest, match=next(iter(wrong))):
        ClientSettings(**wrong)


def test_tls_checks_the_services_certificate(secure_server: Any, connect: Any) -> None:
    trusted = connect(
        secure_server.target, tls_root_certificates=(TLS / "cert.pem").read_bytes(), bearer_token="a-token"
    )
    assert len(trusted.embed(["a"])) == 1
    assert secure_server.calls[0].metadata["authorization"] == "Bearer a-token"
    with pytest.raises(errors.ConnectionFailed):
        connect(secure_server.target, tls=True, retry_attempts=1).embed(["a"])


def test_proxy_of_the_environment_is_not_asked_for_loopback(
    server: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert len(connect(retry_attempts=1).embed(["a"])) == 1


def test_closed_client_refuses_calls(connect: Any) -> None:
    client = connect()
    client.embed(["a"])
    client.close()
    for ask in (lambda: client.embed(["a"]), lambda: list(client.embed_stream([["a"]])), client.spaces):
        with pytest.raises(errors.ConnectionFailed, match="is closed"):
            ask()


@pytest.mark.parametrize("texts", [1, 3], ids=["whole", "split"])
def test_closing_ends_calls_in_flight(server: Any, texts: int) -> None:
    asked = server.hang_from_now("Embed")
    client = Client(server.target, settings=ClientSettings(max_request_items=1))

    def close() -> None:
        asked.wait(10)
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(errors.ConnectionFailed):
        client.embed(["a"] * texts)
    closer.join()


@pytest.mark.parametrize("texts", [1, 3], ids=["whole", "split"])
def test_closing_ends_awaited_calls_in_flight(server: Any, texts: int) -> None:
    asked = server.hang_from_now("Embed")

    async def close_while_asking() -> None:
        async with AsyncClient(server.target, settings=ClientSettings(max_request_items=1)) as client:
            asking = asyncio.create_task(client.embed(["a"] * texts))
            await asyncio.to_thread(asked.wait, 10)
            await client.close()
            with pytest.raises(errors.ConnectionFailed, match="closed during the call"):
                await asking

    asyncio.run(close_while_asking())


def test_closing_ends_a_stream_in_flight(server: Any) -> None:
    asked = server.hang_from_now("EmbedStream")
    client = Client(server.target)

    def close() -> None:
        asked.wait(10)
        client.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(errors.ConnectionFailed):
        list(client.embed_stream([["a"]]))
    closer.join()


def test_closing_ends_an_awaited_stream_in_flight(server: Any) -> None:
    asked = server.hang_from_now("EmbedStream")

    async def take(client: AsyncClient) -> None:
        async for _ in client.embed_stream([["a"]]):
            continue

    async def close_while_streaming() -> None:
        async with AsyncClient(server.target) as client:
            taking = asyncio.create_task(take(client))
            await asyncio.to_thread(asked.wait, 10)
            await client.close()
            with pytest.raises(errors.ConnectionFailed, match="closed during the call"):
                await taking

    asyncio.run(close_while_streaming())


def test_cancelled_task_stays_cancelled_and_ends_its_call(server: Any) -> None:
    asked = server.hang_from_now("Embed")

    async def cancel_while_asking() -> None:
        async with AsyncClient(server.target) as client:
            asking = asyncio.create_task(client.embed(["a"]))
            await asyncio.to_thread(asked.wait, 10)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert await asyncio.to_thread(server.gone.wait, 10)

    asyncio.run(cancel_while_asking())


def test_async_stream_takes_batches_that_come_asynchronously(server: Any) -> None:
    async def batches() -> Any:
        for text in ("a", "b"):
            await asyncio.sleep(0)
            yield [text]

    async def embed() -> list[int]:
        async with AsyncClient(server.target) as client:
            return [len(result) async for result in client.embed_stream(batches())]

    assert asyncio.run(embed()) == [1, 1]


def test_client_may_be_shared_by_threads(server: Any) -> None:
    with Client(server.target) as client:
        results: list[int] = []
        threads = [
            threading.Thread(target=lambda: results.append(len(client.embed([f"{number}" for number in range(300)]))))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert results == [300] * 8


def test_closed_clients_leave_no_file_descriptors(server: Any, connect: Callable[..., Any]) -> None:
    def use() -> None:
        client = connect()
        client.embed(["a"] * 600)
        client.close()

    for _ in range(3):  # gRPC opens what it shares among channels at first use.
        use()
    before = _descriptors()
    for _ in range(10):
        use()
    deadline = time.monotonic() + 10
    while _descriptors() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _descriptors() <= before


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
