"""The status of an asyncio stream survives the placeholder that gRPC lays over it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

from embedder_client.stream_ending import StreamEnding

REAL = (grpc.StatusCode.NOT_FOUND, "no such space")
PLACEHOLDER = (grpc.StatusCode.INTERNAL, "Internal error from Core")


class FakeCall:
    """A stream that ends, as `grpc.aio` tells it, with one status after another."""

    def __init__(self) -> None:
        self.callbacks: list[Callable[[Any], None]] = []
        self.status: tuple[grpc.StatusCode, str] = PLACEHOLDER

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        self.callbacks.append(callback)

    def end(self, status: tuple[grpc.StatusCode, str]) -> None:
        self.status = status
        for callback in self.callbacks:
            callback(self)

    async def code(self) -> grpc.StatusCode:
        return self.status[0]

    async def details(self) -> str:
        return self.status[1]

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return grpc.aio.Metadata(("grpc-retry-pushback-ms", "50"))

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield "an answer that came before the end"


@pytest.mark.parametrize("statuses", [[REAL], [REAL, PLACEHOLDER], [PLACEHOLDER, REAL]])
def test_services_status_is_remembered_whichever_comes_last(statuses: list[Any]) -> None:
    async def ended() -> Any:
        call = FakeCall()
        ending = StreamEnding(call)
        for status in statuses:
            call.end(status)
        return await ending.error()

    error = asyncio.run(ended())
    assert (error.code(), error.details()) == REAL
    assert dict(error.trailing_metadata()) == {"grpc-retry-pushback-ms": "50"}


def test_status_that_comes_late_is_waited_for() -> None:
    async def ended() -> Any:
        call = FakeCall()
        ending = StreamEnding(call)
        call.end(PLACEHOLDER)
        asking = asyncio.create_task(ending.error())
        await asyncio.sleep(0)
        call.end(REAL)
        return await asking

    assert asyncio.run(ended()).code() is grpc.StatusCode.NOT_FOUND


def test_placeholder_is_given_when_nothing_else_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embedder_client.stream_ending.PATIENCE_S", 0.01)

    async def ended() -> Any:
        call = FakeCall()
        ending = StreamEnding(call)
        call.end(PLACEHOLDER)
        return await ending.error()

    assert asyncio.run(ended()).code() is grpc.StatusCode.INTERNAL
