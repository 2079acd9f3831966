"""How an asyncio stream ended, remembered where gRPC forgets it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import grpc.aio

Value = TypeVar("Value")

# How long the service's status may follow a failed write; it is already on its way.
PATIENCE_S = 1.0

# What gRPC's asyncio calls say of a write that failed, in grpc/aio/_call.py and its Cython part.
_PLACEHOLDER_DETAILS = "Internal error from Core"


class StreamEnding:
    """Remembers the status that a streaming call ended with.

    When a write races with the call's end, gRPC's asyncio API puts INTERNAL in place of the service's status (grpcio 1.85).
    It calls the done callbacks for each of the two, so the real one is caught there.

    Args:
        call: a stream-stream call of `grpc.aio`, just made.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._known = asyncio.Event()
        self._error: Any = None
        call.add_done_callback(self._remember)

    async def error(self) -> grpc.RpcError:
        """Return the error that the call ended with; waits `PATIENCE_S` at most for the service's own status."""
        with contextlib.suppress(TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
            async with asyncio.timeout(PATIENCE_S):
                async for _ in self._call:  # Answers that came before the end stand before its status.
                    continue
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await self._known.wait()
        return self._error if self._error is not None else _rpc_error(self._call)

    def _remember(self, call: Any) -> None:
        if _finished(call.details()) != _PLACEHOLDER_DETAILS:
            self._error = _rpc_error(call)
            self._known.set()


def _rpc_error(call: Any) -> grpc.RpcError:
    """Build the error of a call that has ended."""
    initial, trailing = grpc.aio.Metadata(), _finished(call.trailing_metadata()) or grpc.aio.Metadata()
    return grpc.aio.AioRpcError(_finished(call.code()), initial, trailing, _finished(call.details()), None)


def _finished(coroutine: Coroutine[Any, Any, Value]) -> Value:
    """Return what a coroutine gives that does not wait, as those of an ended call do not."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: Value = stop.value
        return value
    raise RuntimeError("the call has not ended")
