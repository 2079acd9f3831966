"""Misses beyond capacity, with deadlines: what is still answered in time, how fast the rest is refused, and what is wasted.

Load is open-loop: calls come at their rate whether or not earlier ones were answered, as callers that do not know of each other
send them. The floor is the peak: the best rate of answers in time that any level of load got.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import grpc
from rich.console import Console

from benchmarks.common.load import EMBED, Load, Method, closed_loop, embed_request, open_loop, open_method, until
from benchmarks.common.run import Result, main
from benchmarks.common.servers import Server, count_encodes, running_service
from benchmarks.common.texts import fresh_texts
from embedder_client.v1 import embedding_service_pb2

_LEVELS = (1, 2, 3, 4, 5)
_JUDGED = 3
_DEADLINE_S = 0.2
_ROUNDS = 3
_LEVEL_S = 3.0
_SETTLE_S = 0.5  # of each level: the queue has not yet found its length
_CAPACITY_S = 3.0
_CAPACITY_IN_FLIGHT = 64

_LONG_BATCHES = ("--max-batch-tokens", "4096")
_BLOCK_TEXTS = 16  # of 256 tokens each: one full batch
_BLOCK_WORDS = 400
_PROBES = 12
_PROBE_TEXTS = 4
_PROBE_AFTER_S = 0.06
_PROBE_DEADLINE_S = 0.1
_MARGIN_S = 0.02

_COLUMNS = ("load", "calls/s", "in time", "of peak", "p99 ms", "refused", "p99 ms", "late", "wasted")
_NOTES = (
    f"Ours only, single new texts, deadlines of {_DEADLINE_S * 1_000:.0f} ms; medians of {_ROUNDS} rounds. Load: times the capacity, "
    f"which is measured at the start of each round with {_CAPACITY_IN_FLIGHT} calls in flight. The load generator shares the machine.",
    "Calls a second after each level's first half second, by their end: in time (answered before the deadline), refused "
    "(RESOURCE_EXHAUSTED), late (ended by the deadline); p99 of those answered and refused. "
    "Wasted: encodes of a whole level, by the ledger, that no answer in time came of; they started in time and ended late.",
)


@dataclass(frozen=True)
class _Level:
    """What one level of load came to in one round; rates are calls a second."""

    offered: float
    goodput: float
    refused: float
    late: float
    p99_ms: float
    refusal_p99_ms: float
    wasted_encodes: int


def measure(_full: bool, console: Console) -> Result:
    """Offer the service one to five times what it can do, then let work expire behind a long batch."""
    texts = fresh_texts()
    levels: dict[int, list[_Level]] = defaultdict(list)
    with running_service() as service, open_method(service.address, EMBED) as method:
        _capacity(method, texts)  # the first calls pay for the connection and the tokenizer's threads
        for number in range(_ROUNDS):
            capacity = _capacity(method, texts)
            console.print(f"round {number + 1} of {_ROUNDS}: capacity {capacity:.0f} texts/s")
            for level in _LEVELS:
                levels[level].append(_offer(service, method, texts, level * capacity))
    console.print("work that expires while it waits")
    with running_service(_LONG_BATCHES) as service, open_method(service.address, EMBED) as method:
        expired, probes = _expired_encodes(service, method, texts)
    return _result(levels, expired, probes)


def _capacity(method: Method, texts: Iterator[str]) -> float:
    """Return how many new texts a second the service answers when nobody has a deadline."""
    requests = (embed_request([text]) for text in texts)
    return closed_loop(method, until(_CAPACITY_S, requests), in_flight=_CAPACITY_IN_FLIGHT).rate


def _offer(service: Server, method: Method, texts: Iterator[str], per_second: float) -> _Level:
    requests = [embed_request([text]) for text in islice(texts, round(per_second * _LEVEL_S))]
    before = count_encodes(service.address)
    load = open_loop(method, requests, per_second=per_second, timeout_s=_DEADLINE_S)
    wasted = _settled_encodes(service) - before - load.count()
    refused = grpc.StatusCode.RESOURCE_EXHAUSTED
    return _Level(
        offered=len(load.calls) / load.sending_s,
        goodput=_settled_rate(load, grpc.StatusCode.OK),
        refused=_settled_rate(load, refused),
        late=_settled_rate(load, grpc.StatusCode.DEADLINE_EXCEEDED),
        p99_ms=load.milliseconds(99),
        refusal_p99_ms=load.milliseconds(99, refused),
        wasted_encodes=wasted,
    )


def _settled_rate(load: Load, code: grpc.StatusCode) -> float:
    """Return the calls a second that ended with a status between the settling and the last sending."""
    start_s, end_s = load.start_s + _SETTLE_S, load.start_s + load.sending_s
    ended = sum(call.code is code and start_s <= call.sent_s + call.seconds <= end_s for call in load.calls)
    return ended / (end_s - start_s)


def _settled_encodes(service: Server) -> int:
    """Return the service's encodes once the device is idle."""
    count = -1
    while (now := count_encodes(service.address)) != count:
        count = now
        time.sleep(_DEADLINE_S)
    return count


def _expired_encodes(service: Server, method: Method, texts: Iterator[str]) -> tuple[int, int]:
    """Send calls whose deadline passes while one long batch holds the device.

    The long batch's own reply tells when it started and ended, so a call counts only if it came after that start and its
    deadline passed before that end: whatever the ledger shows as encoded for its task was expired work.

    Returns:
        the encodes of expired texts, and how many texts expired.
    """
    words = cycle(" ".join(islice(texts, 1_000)).split())
    tasks = []
    for number in range(_PROBES):
        task = f"expired-{number}"
        block = [" ".join(islice(words, _BLOCK_WORDS)) for _ in range(_BLOCK_TEXTS)]
        block_sent_s = time.perf_counter()
        blocking = method.future(embed_request(block, lane="bulk"), timeout=30)
        time.sleep(_PROBE_AFTER_S)
        probe_sent_s = time.perf_counter()
        probe = method.future(embed_request(list(islice(texts, _PROBE_TEXTS)), task=task), timeout=_PROBE_DEADLINE_S)
        timings = embedding_service_pb2.EmbedResponse.FromString(blocking.result()).cost.timings
        started_s = block_sent_s + timings.prepare_s + timings.queue_s
        if probe.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
            continue
        if started_s < probe_sent_s and probe_sent_s + _PROBE_DEADLINE_S + _MARGIN_S < started_s + timings.encode_s:
            tasks.append(task)
    _settled_encodes(service)
    return sum(count_encodes(service.address, task=task) for task in tasks), len(tasks) * _PROBE_TEXTS


def _result(levels: dict[int, list[_Level]], expired: int, probes: int) -> Result:
    peaks = [max(levels[level][number].goodput for level in _LEVELS) for number in range(_ROUNDS)]
    judged = levels[_JUDGED]
    keys = {
        "goodput_share_at_3x": statistics.median(at.goodput / peak for at, peak in zip(judged, peaks, strict=True)),
        "rejection_p99_ms": statistics.median(at.refusal_p99_ms for at in judged),
        "expired_encodes": float(expired) if probes else None,
    }
    note = f"expired_encodes: {expired} of {probes} texts whose deadline passed while another batch held the device, by the ledger."
    return Result(_COLUMNS, [_row(level, levels[level], peaks) for level in _LEVELS], keys, (*_NOTES, note))


def _row(level: int, runs: Sequence[_Level], peaks: Sequence[float]) -> tuple[str, ...]:
    def median(figure: str) -> float:
        return float(statistics.median(getattr(run, figure) for run in runs))

    share = statistics.median(run.goodput / peak for run, peak in zip(runs, peaks, strict=True))
    figures = [median(name) for name in ("p99_ms", "refused", "refusal_p99_ms", "late", "wasted_encodes")]
    return (
        *(f"{level}x", f"{median('offered'):,.0f}", f"{median('goodput'):,.0f}", f"{share:.2f}"),
        *(f"{figure:,.0f}" for figure in figures),
    )


if __name__ == "__main__":
    main("overload", __doc__ or "", measure)
