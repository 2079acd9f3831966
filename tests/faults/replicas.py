"""Kills and restarts replicas and Valkey nodes under the load of a locality client, and counts errors, wrong answers and hits.

    python -m tests.faults.replicas --restarts 100 [--json]

Three daemons with a cache of their own stand before a Valkey cluster of three nodes. The load asks for the same texts over and over, in
calls of several, so that what is computed again shows. First one replica and one Valkey node are killed (kill -9) and started again; then
replicas are restarted in turn, as an orchestrator does it: SIGTERM, wait for the end, start, wait until it serves.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc

from embedder_client import Client, ClientSettings, EmbedderClientError, EmbedResult, ItemSource
from tests.frontends.processes import wait_until
from tests.valkey_cluster import ValkeyCluster, running_cluster

_TEXTS = [f"asked for again and again, text number {number}" for number in range(400)]
_CALL_ITEMS = 16
_CALLERS = 4
_WINDOW_CALLS = 100
_RECOVERED = 0.99
_START_TIMEOUT_S = 240.0
_FLAGS = ("--drain-delay-ms", "500", "--drain-grace-ms", "10000", "--decode-workers", "0", "--log-format", "json")


class Replica:
    """A daemon on a port and a folder that it keeps over restarts."""

    def __init__(self, folder: Path, port: int, flags: Sequence[str]) -> None:
        self.address = f"127.0.0.1:{port}"
        self._folder = folder
        self._flags = flags
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, unless it runs; it serves some seconds later."""
        if self._process is not None:
            return
        with (self._folder / "daemon.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "embedder.cli.serve"),
                    *("--listen-address", self.address, "--data-dir", str(self._folder), *self._flags),
                ],
                stderr=log,
            )

    def wait_until_serving(self) -> None:
        """Wait until health says so."""
        with grpc.insecure_channel(self.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check

            def is_serving() -> bool:
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "daemon.log").read_text()[-2_000:]
                try:
                    reply = check(health_pb2.HealthCheckRequest(), timeout=2)
                except grpc.RpcError:
                    return False
                return bool(reply.status == health_pb2.HealthCheckResponse.SERVING)

            wait_until(is_serving, seconds=_START_TIMEOUT_S)

    def kill(self) -> None:
        """End it as if its machine had gone."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it drain, and wait for its end."""
        self._signal(signal.SIGTERM)

    def _signal(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None


@dataclass(frozen=True)
class Outcome:
    """What one call came to: how many of its contents were hits, or the error."""

    hits: int = 0
    computed: int = 0
    error: str = ""
    is_wrong: bool = False


def _cosines(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return (n,) cosines of rows: in float16, a unit vector's own length is off by up to 1e-4."""
    products = np.einsum("nd,nd->n", left, right)
    return np.asarray(products / (np.linalg.norm(left, axis=1) * np.linalg.norm(right, axis=1)))


@dataclass
class Load:
    """Callers of one client, until told to end."""

    client: Client
    known: dict[str, np.ndarray]
    outcomes: list[Outcome] = field(default_factory=list)
    is_over: bool = False

    def call_on(self, seed: int) -> None:
        """Make calls until told to end."""
        choice = random.Random(seed)
        while not self.is_over:
            texts = choice.sample(_TEXTS, _CALL_ITEMS)
            try:
                result = self.client.embed(texts)
            except EmbedderClientError as error:
                self.outcomes.append(Outcome(error=repr(error)))
                continue
            self.outcomes.append(self._judge(texts, result))

    def _judge(self, texts: list[str], result: EmbedResult) -> Outcome:
        if result.failures:
            return Outcome(error=repr(result.failures[0]))
        computed = result.sources.count(ItemSource.COMPUTED)
        expected = np.stack([self.known[text] for text in texts])
        is_right = _cosines(result.float32(), expected).min() > 0.9999
        return Outcome(len(texts) - computed, computed, is_wrong=not is_right)

    def hit_rate(self, first: int, last: int | None = None) -> float:
        """Return the share of hits in these calls."""
        chosen = self.outcomes[first:last]
        hits, computed = sum(outcome.hits for outcome in chosen), sum(outcome.computed for outcome in chosen)
        return hits / max(1, hits + computed)

    def wait_for_calls(self, count: int) -> None:
        """Wait until that many more calls have ended."""
        goal = len(self.outcomes) + count
        wait_until(lambda: len(self.outcomes) >= goal, seconds=_START_TIMEOUT_S)

    def wait_until_recovered(self) -> None:
        """Wait until the last calls were hits."""
        self.wait_for_calls(_WINDOW_CALLS)
        wait_until(lambda: self.hit_rate(-_WINDOW_CALLS) >= _RECOVERED, seconds=_START_TIMEOUT_S)


@contextmanager
def running_replicas(folder: Path, cluster: ValkeyCluster, *, count: int = 3) -> Iterator[list[Replica]]:
    """Run daemons of one tenant, each with a cache of its own, on one shared tier."""
    flags = (*_FLAGS, "--shared-cache-url", cluster.url, "--shared-cache-wait-ms", "200")
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        ports = [listener.getsockname()[1] for listener in listeners]
        stack.close()
        secret = random.SystemRandom().randbytes(32)
        replicas = []
        for number, port in enumerate(ports):
            own = folder / f"replica-{number}"
            own.mkdir()
            (own / "domain.key").write_bytes(secret)
            (own / "domain.key").chmod(0o600)
            replicas.append(Replica(own, port, flags))
            stack.callback(replicas[-1].kill)
            replicas[-1].start()
        for replica in replicas:
            replica.wait_until_serving()
        yield replicas
        for replica in replicas:
            replica.stop()


@contextmanager
def load_on(replicas: Sequence[Replica]) -> Iterator[Load]:
    """Keep calls under way on the replicas, all texts known from the start."""
    target = "ipv4:" + ",".join(replica.address for replica in replicas)
    settings = ClientSettings(client_name="load", timeout_s=60, health_interval_s=0.25)
    with Client(target, locality=True, settings=settings) as client:
        first = client.embed(_TEXTS, durable=True)
        first.raise_for_failures()
        load = Load(client, dict(zip(_TEXTS, first.float32(), strict=True)))
        callers = [
            threading.Thread(target=load.call_on, args=(seed,), name=f"caller-{seed}") for seed in range(_CALLERS)
        ]
        for caller in callers:
            caller.start()
        try:
            yield load
        finally:
            load.is_over = True
            for caller in callers:
                caller.join()


def kill_one_of_each(load: Load, replicas: Sequence[Replica], cluster: ValkeyCluster) -> dict[str, float]:
    """Kill a replica and a Valkey node, wait until hits are back, start both again, and wait once more; returns hit rates."""
    load.wait_until_recovered()
    before = len(load.outcomes)
    replicas[1].kill()
    cluster.kill(1)
    load.wait_until_recovered()
    without = len(load.outcomes)
    replicas[1].start()
    cluster.start(1)
    replicas[1].wait_until_serving()
    load.wait_until_recovered()
    windows = range(before, len(load.outcomes) - _WINDOW_CALLS, 20)
    return {
        "hit_rate_before_kill": round(load.hit_rate(max(0, before - _WINDOW_CALLS), before), 4),
        "hit_rate_lowest_100_calls": round(min(load.hit_rate(start, start + _WINDOW_CALLS) for start in windows), 4),
        "hit_rate_without_them": round(load.hit_rate(without - _WINDOW_CALLS, without), 4),
        "hit_rate_after_return": round(load.hit_rate(-_WINDOW_CALLS), 4),
    }


def restart_in_turn(load: Load, replicas: Sequence[Replica], *, restarts: int, says: bool = False) -> int:
    """Restart replicas one after the other, each once the one before serves again; returns how many, also after Ctrl-C."""
    number = 0
    try:
        for number in range(restarts):
            _restart(load, replicas[number % len(replicas)])
            if says:
                sys.stderr.write(f"\r{number + 1} of {restarts} restarts, {len(load.outcomes)} calls")
    except KeyboardInterrupt:
        stopped = replicas[number % len(replicas)]
        stopped.start()
        stopped.wait_until_serving()
        return number
    return restarts


def _restart(load: Load, replica: Replica) -> None:
    replica.stop()
    replica.start()
    replica.wait_until_serving()
    load.wait_for_calls(20)


def run(*, restarts: int, folder: Path, says: bool = False) -> dict[str, float | list[str]]:
    """Run everything; returns what was counted."""
    start = time.monotonic()
    counts: dict[str, float | list[str]] = {"replicas": 3, "valkey_nodes": 3}
    with (
        running_cluster(folder) as cluster,
        running_replicas(folder, cluster) as replicas,
        load_on(replicas) as load,
    ):
        counts |= kill_one_of_each(load, replicas, cluster)
        counts["calls_around_kills"] = len(load.outcomes)
        counts["restarts"] = restart_in_turn(load, replicas, restarts=restarts, says=says)
        load.wait_until_recovered()
        counts["hit_rate_at_the_end"] = round(load.hit_rate(-_WINDOW_CALLS), 4)
    errors = [outcome.error for outcome in load.outcomes if outcome.error]
    return counts | {
        "calls": len(load.outcomes),
        "failed_calls": len(errors),
        "wrong_calls": sum(outcome.is_wrong for outcome in load.outcomes),
        "computed": sum(outcome.computed for outcome in load.outcomes),
        "seconds": round(time.monotonic() - start),
        "errors": errors[:5],
    }


def main() -> None:
    """Run from the command line; status 1 when a call failed or was answered wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=6)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with it ignored
    with tempfile.TemporaryDirectory(prefix="replicas-") as folder:
        counts = run(restarts=options.restarts, folder=Path(folder), says=not options.json)
    sys.stdout.write(
        json.dumps(counts) + "\n" if options.json else "".join(f"{name:28} {count}\n" for name, count in counts.items())
    )
    sys.exit(1 if counts["failed_calls"] or counts["wrong_calls"] else 0)


if __name__ == "__main__":
    main()
