"""Hits through gRPC, beside an echo server that answers the same bytes: what the hit path adds to gRPC itself.

Both servers are processes of their own with grpcio's thread pool of the same size, and get the same requests from the same
load generator, in turns. What the echo server leaves out is all that the service does: parsing, hashing, the cache, counting.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import cycle, islice
from multiprocessing.connection import Connection

from rich.console import Console

from benchmarks.common.load import (
    EMBED,
    LOOKUP,
    Load,
    Method,
    closed_loop,
    embed_request,
    open_loop,
    open_method,
    open_spread,
    until,
)
from benchmarks.common.run import Result, main
from benchmarks.common.servers import Server, child_process, count_encodes, running_echo, running_service
from benchmarks.common.texts import fresh_texts
from embedder_client import Client, hash_text
from embedder_client.v1 import embedding_service_pb2

_BATCH = 256
_IN_FLIGHT = 16
_ROUNDS = 5
_RUN_S = 1.5
_CONNECTIONS = 8
_SERVERS = ("auto", "grpcio")
_MISSES_IN_FLIGHT = 64
_PACED_ROUNDS = 3
_PACED_HITS_PER_S = 100
_PACED_S = 4.0
_DEADLINE_S = 10.0
_SENDER_NICE = 10

_COLUMNS = ("server", "asks", "calls/s", "vectors/s", "p50 ms", "p99 ms", "CPU us", "share")
_NOTES = (
    f"Medians of {_ROUNDS} rounds, each a run of {_RUN_S} s of the echo server and one of the service, {_IN_FLIGHT} calls in flight; "
    "the load generator shares the machine. Share: of the echo server's calls/s, the median of the rounds' own ratios. "
    "CPU: the server's processor time for a call.",
    f"Hits under misses: {_PACED_HITS_PER_S} hits a second, medians of {_PACED_ROUNDS} rounds of {_PACED_S:.0f} s, without and with "
    f"{_MISSES_IN_FLIGHT} misses in flight from another process, which steps back from the cores (nice {_SENDER_NICE}): it would be on "
    "another machine.",
    f"two_frontends: batches of {_BATCH} texts from {_CONNECTIONS} connections, to one process and to two front-ends (an engine and a "
    "keeper idle beside them), in turns; the median of the rounds' own ratios of calls/s, by --server. Where servers and load "
    "generator together take all cores, that bounds the ratio: compare the CPU column.",
)


@dataclass
class _Kind:
    """One way of asking, and what its runs came to."""

    name: str
    path: str
    requests: Sequence[bytes]
    vectors: int
    echo: list[_Run] = field(default_factory=list)
    ours: list[_Run] = field(default_factory=list)

    @property
    def echo_path(self) -> str:
        """The echo server's method that answers the same bytes."""
        return f"/echo/{self.name}"

    @property
    def share(self) -> float:
        """Our call rate over the echo server's."""
        return statistics.median(ours.rate / echo.rate for ours, echo in zip(self.ours, self.echo, strict=True))


@dataclass(frozen=True)
class _Run:
    rate: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def measure(_full: bool, console: Console) -> Result:
    """Measure both servers in turns, then the service's hits while misses keep its device busy."""
    texts = list(islice(fresh_texts(), _BATCH))
    with running_service() as service:
        with Client(service.address) as client:
            client.embed(texts, durable=True)
        encodes = count_encodes(service.address)
        kinds = _kinds(texts)
        with ExitStack() as stack:
            ours = [stack.enter_context(open_method(service.address, kind.path)) for kind in kinds]
            replies = {kind.echo_path: method(kind.requests[0]) for kind, method in zip(kinds, ours, strict=True)}
            echo = stack.enter_context(running_echo(replies))
            echoes = [stack.enter_context(open_method(echo.address, kind.echo_path)) for kind in kinds]
            for number in range(_ROUNDS):
                console.print(f"round {number + 1} of {_ROUNDS}")
                for kind, echo_method, our_method in zip(kinds, echoes, ours, strict=True):
                    kind.echo.append(_run(echo, echo_method, kind.requests))
                    kind.ours.append(_run(service, our_method, kind.requests))
        assert count_encodes(service.address) == encodes, "a hit was encoded"
        idle, loaded, misses_per_s = _hits_under_misses(service, kinds[0], console)
    frontends = {server: _by_frontends(server, texts, kinds[1], console) for server in _SERVERS}
    return _result(kinds, idle, loaded, misses_per_s, frontends)


def _by_frontends(server: str, texts: Sequence[str], kind: _Kind, console: Console) -> tuple[list[_Run], list[_Run]]:
    """Return runs of the same hits on one process, and on two front-ends, both with the same `--server`."""
    runs: tuple[list[_Run], list[_Run]] = ([], [])
    with ExitStack() as stack:
        contenders = []
        for frontends in ("1", "2"):
            service = stack.enter_context(running_service(["--server", server, "--frontends", frontends]))
            with Client(service.address) as client:
                client.embed(texts, durable=True)
            spread = open_spread(service.address, kind.path, connections=_CONNECTIONS)
            contenders.append((service, stack.enter_context(spread)))
        for number in range(_ROUNDS):
            console.print(f"front-ends, --server {server}, round {number + 1} of {_ROUNDS}")
            for (service, method), kept in zip(contenders, runs, strict=True):
                kept.append(_run(service, method, kind.requests))
    return runs


def _kinds(texts: Sequence[str]) -> list[_Kind]:
    hashes = b"".join(map(hash_text, texts))
    lookup = embedding_service_pb2.LookupRequest(content_hashes=hashes).SerializeToString()
    return [
        _Kind("one text", EMBED, [embed_request([text]) for text in texts], 1),
        _Kind(f"{_BATCH} texts", EMBED, [embed_request(texts)], _BATCH),
        _Kind(f"{_BATCH} hashes", LOOKUP, [lookup], _BATCH),
    ]


def _run(server: Server, method: Method, requests: Sequence[bytes]) -> _Run:
    cpu_s = server.cpu_seconds()
    load = closed_loop(method, until(_RUN_S, cycle(requests)), in_flight=_IN_FLIGHT).expect_answers()
    cpu_us = 1e6 * (server.cpu_seconds() - cpu_s) / load.count()
    return _Run(load.rate, load.milliseconds(50), load.milliseconds(99), cpu_us)


def _hits_under_misses(service: Server, kind: _Kind, console: Console) -> tuple[list[Load], list[Load], float]:
    """Return steady hits on the idle service, the same while misses saturate it, and the misses that it encoded a second."""
    idle: list[Load] = []
    loaded: list[Load] = []
    rates: list[float] = []
    with open_method(service.address, kind.path) as method:
        for number in range(_PACED_ROUNDS):
            console.print(f"hits under misses, round {number + 1} of {_PACED_ROUNDS}")
            idle.append(_paced(method, kind))
            with child_process(_saturate, service.address, number + 1) as (connection, _):
                connection.recv()
                before = count_encodes(service.address)
                loaded.append(_paced(method, kind))
                rates.append((count_encodes(service.address) - before) / loaded[-1].wall_s)
    return idle, loaded, statistics.median(rates)


def _paced(method: Method, kind: _Kind) -> Load:
    requests = islice(cycle(kind.requests), round(_PACED_HITS_PER_S * _PACED_S))
    return open_loop(method, requests, per_second=_PACED_HITS_PER_S, timeout_s=_DEADLINE_S).expect_answers()


def _saturate(connection: Connection, address: str, seed: int) -> None:
    """Keep misses in flight until this process is ended; says so over the pipe once they are."""
    os.nice(_SENDER_NICE)

    def requests() -> Iterator[bytes]:
        for number, text in enumerate(fresh_texts(seed)):
            if number == 2 * _MISSES_IN_FLIGHT:
                connection.send("saturated")
            yield embed_request([text])

    with open_method(address, EMBED) as method:
        closed_loop(method, requests(), in_flight=_MISSES_IN_FLIGHT)


def _result(
    kinds: Sequence[_Kind],
    idle: Sequence[Load],
    loaded: Sequence[Load],
    misses_per_s: float,
    frontends: Mapping[str, tuple[Sequence[_Run], Sequence[_Run]]],
) -> Result:
    rows = []
    for kind in kinds:
        rows.append(_row("echo", kind, kind.echo, ""))
        rows.append(_row("ours", kind, kind.ours, f"{kind.share:.2f}"))
    idle_ms, loaded_ms = [statistics.median(load.milliseconds(99) for load in loads) for loads in (idle, loaded)]
    for asks, loads in (("one, idle", idle), (f"one, {misses_per_s:.0f} misses/s", loaded)):
        p50, p99 = [f"{statistics.median(load.milliseconds(at) for load in loads):.2f}" for at in (50, 99)]
        rows.append(("ours", asks, str(_PACED_HITS_PER_S), str(_PACED_HITS_PER_S), p50, p99, "", ""))
    gains = {}
    for server, (one, two) in frontends.items():
        gains[server] = statistics.median(many.rate / few.rate for many, few in zip(two, one, strict=True))
        rows.append(_row(f"ours, {server}, 1 process", kinds[1], one, ""))
        rows.append(_row(f"ours, {server}, 2 front-ends", kinds[1], two, ""))
    single, batch, hashes = [kind.share for kind in kinds]
    keys = {
        "single_vs_echo": single,
        "batch256_vs_echo": batch,
        "hash256_vs_echo": hashes,
        "two_frontends": gains["auto"],
        "two_frontends_grpcio": gains["grpcio"],
        "hit_p99_under_misses": loaded_ms / idle_ms,
    }
    return Result(_COLUMNS, rows, keys, _NOTES)


def _row(server: str, kind: _Kind, runs: Sequence[_Run], share: str) -> tuple[str, ...]:
    rate, p50, p99, cpu = [
        statistics.median(getattr(run, name) for run in runs) for name in ("rate", "p50_ms", "p99_ms", "cpu_us")
    ]
    return (
        *(server, kind.name, f"{rate:,.0f}", f"{rate * kind.vectors:,.0f}", f"{p50:.2f}", f"{p99:.2f}", f"{cpu:.0f}"),
        share,
    )


if __name__ == "__main__":
    main("hits", __doc__ or "", measure)
