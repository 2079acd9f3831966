"""Interactive calls beside a bulk lane that always has work: what a backfill costs those who wait.

The floor is the same calls on the idle service. What an interactive call must bear is the batch that is on the device when it comes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from itertools import islice
from multiprocessing.connection import Connection

from rich.console import Console

from benchmarks.common.load import EMBED, Load, Method, closed_loop, embed_request, open_loop, open_method
from benchmarks.common.run import Result, main
from benchmarks.common.servers import child_process, count_encodes, running_service
from benchmarks.common.texts import fresh_texts
from embedder_client.v1 import embedding_service_pb2

_ROUNDS = 5
_CALLS_PER_S = 15
_ROUND_S = 4.0
_DEADLINE_S = 10.0
_BULK_TEXTS = 64
_BULK_IN_FLIGHT = 6
_BATCHES = 9
_TIMES_IDLE = 1.5

_COLUMNS = ("bulk lane", "p50 ms", "p99 ms", "bulk texts/s")
_NOTES = (
    f"Single new texts, {_CALLS_PER_S} a second, medians of {_ROUNDS} rounds of {_ROUND_S:.0f} s, without and with {_BULK_IN_FLIGHT} "
    f"bulk calls of {_BULK_TEXTS} new texts in flight from another process; both share the machine with the service.",
    f"p99_vs_bound: p99 beside bulk work over the bound, which is {_TIMES_IDLE} times the idle p99 and one batch "
    "(of bulk texts, on the idle service).",
)


def measure(_full: bool, console: Console) -> Result:
    """Ask for single new texts at a steady rate, without and with bulk work in turns."""
    texts = fresh_texts()
    idle: list[Load] = []
    beside: list[Load] = []
    rates: list[float] = []
    with running_service() as service, open_method(service.address, EMBED) as method:
        batch_ms = _batch_ms(method, texts)
        for number in range(_ROUNDS):
            console.print(f"round {number + 1} of {_ROUNDS}")
            idle.append(_ask(method, texts))
            with child_process(_saturate, service.address, number + 1) as (connection, _):
                connection.recv()
                before = count_encodes(service.address, task="bulk")
                beside.append(_ask(method, texts))
                rates.append((count_encodes(service.address, task="bulk") - before) / beside[-1].wall_s)
    return _result(idle, beside, statistics.median(rates), batch_ms)


def _ask(method: Method, texts: Iterator[str]) -> Load:
    requests = [embed_request([text]) for text in islice(texts, round(_CALLS_PER_S * _ROUND_S))]
    return open_loop(method, requests, per_second=_CALLS_PER_S, timeout_s=_DEADLINE_S).expect_answers()


def _batch_ms(method: Method, texts: Iterator[str]) -> float:
    """Return how long a batch of bulk work holds the device, by the service's own word."""
    replies = [method(_bulk_request(texts), timeout=_DEADLINE_S) for _ in range(_BATCHES)]
    timings = [embedding_service_pb2.EmbedResponse.FromString(reply).cost.timings for reply in replies]
    return 1_000 * statistics.median(timing.encode_s for timing in timings)


def _bulk_request(texts: Iterator[str]) -> bytes:
    return embed_request(list(islice(texts, _BULK_TEXTS)), lane="bulk", task="bulk")


def _saturate(connection: Connection, address: str, seed: int) -> None:
    """Keep bulk work in flight until this process is ended; says so over the pipe once it is."""

    def requests() -> Iterator[bytes]:
        texts = fresh_texts(seed)
        for number in range(1_000_000):
            if number == 2 * _BULK_IN_FLIGHT:
                connection.send("saturated")
            yield _bulk_request(texts)

    with open_method(address, EMBED) as method:
        closed_loop(method, requests(), in_flight=_BULK_IN_FLIGHT)


def _result(idle: Sequence[Load], beside: Sequence[Load], bulk_per_s: float, batch_ms: float) -> Result:
    (idle_p50, idle_p99), (beside_p50, beside_p99) = [
        [statistics.median(load.milliseconds(at) for load in loads) for at in (50, 99)] for loads in (idle, beside)
    ]
    bound_ms = _TIMES_IDLE * idle_p99 + batch_ms
    rows = [
        ("idle", f"{idle_p50:.1f}", f"{idle_p99:.1f}", ""),
        ("saturated", f"{beside_p50:.1f}", f"{beside_p99:.1f}", f"{bulk_per_s:,.0f}"),
        ("bound", "", f"{bound_ms:.1f}", f"one batch: {batch_ms:.1f} ms"),
    ]
    return Result(_COLUMNS, rows, {"p99_vs_bound": beside_p99 / bound_ms}, _NOTES)


if __name__ == "__main__":
    main("lanes", __doc__ or "", measure)
