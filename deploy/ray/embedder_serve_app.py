"""A Ray Serve application around the engine of embedder-serve: the same wire for Embed and Lookup, behind Serve's gRPC proxy.

cd deploy/ray && serve run serve.yaml
"""

from __future__ import annotations

import asyncio
import fcntl
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray import serve

from embedder.config import ServeSettings, load_settings
from embedder.server.build import build_runtime
from embedder.server.call import Call
from embedder.server.embedding_calls import EmbedCall, look_up
from embedder.server.error_table import ErrorStatus, row_of
from embedder.telemetry.observer import ServiceObserver
from embedder.telemetry.tally import Tally
from embedder_client.v1 import embedding_service_pb2 as pb

_MOST_REPLICAS_A_NODE = 64


@serve.deployment(
    max_ongoing_requests=256,
    graceful_shutdown_timeout_s=30,
    health_check_period_s=5,
)
class Embedder:
    """One replica: a runtime of its own, with a cache of its own on its node."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Load the encoder and open the cache.

        Args:
            settings: of embedder-serve, by name; `data_dir` is on the node, and each replica takes a folder in it.
        """
        self._stack = ExitStack()
        loaded = load_settings(**settings)
        own = loaded.model_copy(update={"data_dir": _take_folder(loaded.data_dir, self._stack)})
        observer = ServiceObserver(Tally(), tracing=None, reason_of=lambda error: row_of(error).reason)
        self._settings: ServeSettings = own
        self._runtime = build_runtime(own, self._stack, observer)

    async def Embed(self, request: pb.EmbedRequest, grpc_context: Any) -> pb.EmbedResponse:
        """See `EmbeddingService.Embed`."""
        try:
            embed = EmbedCall(self._runtime, self._call(grpc_context), request)
            ticket = embed.start()
            done, loop = asyncio.Event(), asyncio.get_running_loop()
            ticket.when_done(lambda: loop.call_soon_threadsafe(done.set))
            try:
                await done.wait()
            except asyncio.CancelledError:
                ticket.abandon()
                raise
            return embed.reply()
        except Exception as error:
            _tell(grpc_context, error)
            raise

    async def Lookup(self, request: pb.LookupRequest, grpc_context: Any) -> pb.LookupResponse:
        """See `EmbeddingService.Lookup`."""
        try:
            # May wait for the shared tier, so not in the event loop.
            return await asyncio.to_thread(look_up, self._runtime, self._call(grpc_context), request)
        except Exception as error:
            _tell(grpc_context, error)
            raise

    def __del__(self) -> None:
        """Write everything down; Serve calls this once no request is left."""
        self._stack.close()

    def _call(self, grpc_context: Any) -> Call:
        # Serve tells its replicas no deadline; its own time-out is `request_timeout_s`.
        metadata = dict(grpc_context.invocation_metadata())
        return Call.of_metadata(metadata, None, default_deadline_s=self._settings.default_deadline_ms / 1_000)


def _tell(grpc_context: Any, error: Exception) -> None:
    """Say an error as embedder-serve does."""
    status = ErrorStatus(error)
    grpc_context.set_code(status.code)
    grpc_context.set_details(status.details)
    grpc_context.set_trailing_metadata(list(status.trailing_metadata))


def _take_folder(parent: Path, stack: ExitStack) -> Path:
    """Take the first folder that no other replica of this node holds: one that comes after another finds its warm cache."""
    parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(_MOST_REPLICAS_A_NODE):
        lock = stack.enter_context((parent / f"replica-{number}.lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        folder = parent / f"replica-{number}"
        folder.mkdir(exist_ok=True, mode=0o700)
        return folder
    raise RuntimeError(f"{_MOST_REPLICAS_A_NODE} replicas hold every folder of {parent}")


def application(settings: dict[str, Any]) -> serve.Application:
    """Return the application for settings of embedder-serve by name; what a replica takes stands in the config file."""
    return Embedder.bind(settings)
