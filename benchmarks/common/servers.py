"""What is measured, each in a process of its own: the service, an echo server as its floor, and the bare encoder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import psutil

from embedder.demo.daemon import running_daemon
from embedder_client import Client

# Forking a process that has gRPC or torch threads is not safe.
_PROCESSES = get_context("spawn")
_STOP_TIMEOUT_S = 10.0
_MAX_CALLS = 64  # embedder-serve's own default


@dataclass(frozen=True)
class Server:
    """A server in a process of its own, or several that the first one started."""

    address: str
    process: psutil.Process

    def cpu_seconds(self) -> float:
        """Return the processor time that it has used."""
        every = [process.cpu_times() for process in (self.process, *self.process.children(recursive=True))]
        return float(sum(times.user + times.system for times in every))


@contextmanager
def running_service(flags: Sequence[str] = ()) -> Iterator[Server]:
    """Run embedder-serve on an empty cache, with its defaults and `flags`."""
    before = {child.pid for child in psutil.Process().children()}
    with TemporaryDirectory(prefix="embedder-benchmark-") as folder:
        with running_daemon(Path(folder), flags) as address:
            children = [child for child in psutil.Process().children() if child.pid not in before]
            yield Server(address, next(child for child in children if "embedder.cli.serve" in child.cmdline()))


@contextmanager
def running_echo(replies: Mapping[str, bytes]) -> Iterator[Server]:
    """Run the least that grpcio can do: each method, by its path, answers fixed bytes from a pool of threads."""
    with child_process(_echo, dict(replies)) as (connection, process):
        yield Server(connection.recv(), process)


@contextmanager
def bare_encoder() -> Iterator[Callable[[Sequence[str]], float]]:
    """Load the service's default encoder alone; gives a function that encodes texts in one call and returns the seconds.

    The time is that of tokenizing and encoding; nothing is cached, and nothing waits.
    """
    with child_process(_encode) as (connection, _):

        def encode(texts: Sequence[str]) -> float:
            connection.send(list(texts))
            seconds: float = connection.recv()
            return seconds

        yield encode


def count_encodes(address: str, *, task: str = "") -> int:
    """Return how many contents the device has computed so far, for one task or all, by the service's own ledger."""
    with Client(address) as client:
        return client.savings(task=task).total.encodes


@contextmanager
def child_process(run: Callable[..., None], *arguments: Any) -> Iterator[tuple[Connection, psutil.Process]]:
    """Run a function in a spawned process that ends with this block; it talks over a pipe, its first argument."""
    ours, theirs = _PROCESSES.Pipe()
    process = _PROCESSES.Process(target=run, args=(theirs, *arguments), daemon=True)
    process.start()
    theirs.close()
    try:
        assert process.pid is not None
        yield ours, psutil.Process(process.pid)
    finally:
        ours.close()
        process.terminate()
        process.join(_STOP_TIMEOUT_S)


def _echo(connection: Connection, replies: Mapping[str, bytes]) -> None:
    class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc ships no types
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            reply = replies[details.method]
            return grpc.unary_unary_rpc_method_handler(lambda _, __: reply)

    server = grpc.server(
        ThreadPoolExecutor(max_workers=_MAX_CALLS),
        handlers=[Echo()],
        options=[("grpc.max_receive_message_length", 32 << 20), ("grpc.so_reuseport", 0)],
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    connection.send(f"127.0.0.1:{port}")
    server.wait_for_termination()


def _encode(connection: Connection) -> None:
    from embedder.encoders.load import load_encoder
    from embedder.media.limits import MediaLimits

    encoder = load_encoder("default", limits=MediaLimits())
    while True:
        try:
            texts = connection.recv()
        except EOFError:
            return
        start = time.perf_counter()
        encoder.encode_texts(encoder.prepare_texts(texts))
        connection.send(time.perf_counter() - start)
