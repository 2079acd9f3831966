"""A started service of several processes, as its operator sees it, and ways to reach each front-end."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedder.demo.daemon import running_daemon
from embedder_client import Client, ClientSettings

_MOST_CONNECTIONS = 64


def wait_until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for a condition; fail when it does not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.01)


class NotReached(Exception):
    """No connection landed on a front-end."""


@dataclass(frozen=True)
class Processes:
    """A started service as its operator sees it.

    Attributes:
        target: address of the port that its front-ends share.
        supervisor: the process that started the others.
        web: URL of its metrics, without a path.
        page: URL of its page, without a path.
    """

    target: str
    supervisor: psutil.Process
    web: str = ""
    page: str = ""

    def process(self, name: str) -> psutil.Process:
        """Return the process of a role and number, such as `engine-0`."""
        found: list[psutil.Process] = []

        def look() -> bool:
            found[:] = [child for child in self.supervisor.children() if name in _words(child)]
            return len(found) == 1

        wait_until(look)
        return found[0]

    def kill(self, name: str) -> None:
        """Kill a process, and wait until it is gone."""
        process = self.process(name)
        process.send_signal(signal.SIGKILL)
        process.wait(10)

    def status_of(self, name: str) -> int:
        """Ask one front-end how the service is, by the stock protocol."""
        with self.channel_to(name) as channel:
            status: int = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10).status
            return status

    def is_healthy(self) -> bool:
        """Whether both front-ends say SERVING; one that is being started takes no connection yet."""
        serving = health_pb2.HealthCheckResponse.SERVING
        try:
            return all(self.status_of(f"frontend-{number}") == serving for number in range(2))
        except (NotReached, psutil.Error):
            return False

    @contextmanager
    def channel_to(self, name: str) -> Iterator[grpc.Channel]:
        """Connect to one front-end: the system spreads connections, so try until one lands there."""
        with ExitStack() as stack:
            for _ in range(_MOST_CONNECTIONS):
                before = self._connections(name)
                options = [("grpc.use_local_subchannel_pool", 1)]
                channel = stack.enter_context(grpc.insecure_channel(self.target, options))
                grpc.channel_ready_future(channel).result(timeout=30)
                if self._connections(name) - before:
                    yield channel
                    return
        raise NotReached(name)

    @contextmanager
    def client_of(self, name: str) -> Iterator[Client]:
        """Connect a client to one front-end; it does not retry."""
        with ExitStack() as stack:
            for attempt in range(_MOST_CONNECTIONS):
                before = self._connections(name)
                # Channels of different options do not share a connection.
                settings = ClientSettings(
                    client_name=name, retry_attempts=1, timeout_s=60, keepalive_time_s=330.0 + attempt
                )
                client = stack.enter_context(Client(self.target, settings=settings))
                client.limits()
                if self._connections(name) - before:
                    yield client
                    return
        raise NotReached(name)

    def _connections(self, name: str) -> set[tuple[str, int]]:
        return {
            tuple(connection.raddr)
            for connection in self.process(name).net_connections("tcp")
            if connection.status == psutil.CONN_ESTABLISHED
        }


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@contextmanager
def running_processes(folder: Path, *flags: str) -> Iterator[Processes]:
    """Run embedder-serve with two front-ends and `flags`."""
    known = {child.pid for child in psutil.Process().children()}
    web, page = _free_address(), _free_address()
    told = ["--metrics-address", web, "--dashboard", "--dashboard-address", page]
    with running_daemon(folder, ["--frontends", "2", *told, *flags]) as target:
        started = [child for child in psutil.Process().children() if child.pid not in known]
        supervisor = next(child for child in started if "embedder.cli.serve" in _words(child))
        yield Processes(target, supervisor, f"http://{web}", f"http://{page}")


def _free_address() -> str:
    """Return an address that a process which is started anew can have again, as port 0 could not promise."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"127.0.0.1:{server.getsockname()[1]}"
