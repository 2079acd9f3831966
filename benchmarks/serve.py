"""Misses through gRPC, one text a call, beside the bare encoder and Infinity: what serving costs on top of encoding.

Every text is new to the service. The bare encoder is a process of its own that gets the same texts in one call, so its rate is
what the model alone does here; it takes turns with the service. Infinity serves the same model and texts over HTTP (`--full`).
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

from rich.console import Console

from benchmarks.common.infinity import EngineName, InfinityMissing, json_request, prepare_infinity, running_infinity
from benchmarks.common.load import EMBED, Method, closed_loop, embed_request, open_method
from benchmarks.common.run import Result, main
from benchmarks.common.servers import bare_encoder, count_encodes, running_service
from benchmarks.common.texts import fresh_texts

_TEXTS_BY_IN_FLIGHT = {1: 120, 16: 400, 64: 400}
_JUDGED = 64  # calls in flight
_WARM_UP_TEXTS = 128
_ROUNDS = 4
_PEER_ROUNDS = 2

_OURS, _BARE = "ours", "bare encoder"
_PEERS: dict[EngineName, str] = {"torch": "Infinity fp32", "int8": "Infinity int8"}
_COLUMNS = ("server", "in flight", "texts/s", "p50 ms", "p99 ms", "ours to this")
_NOTES = (
    f"Medians of {_ROUNDS} rounds ({_PEER_ROUNDS} beside Infinity); in each, every server gets the same new texts in its turn, and the "
    "load generator shares the machine. Ours to this: our texts/s over this server's, the median of the rounds' own ratios.",
    "Infinity 0.0.77, torch fp32 and ONNX Runtime int8 (dynamic, fused), on all-MiniLM-L6-v2 as the service.",
)


@dataclass(frozen=True)
class _Run:
    """One run of the same texts: texts a second, and milliseconds of a call."""

    rate: float
    p50_ms: float = float("nan")
    p99_ms: float = float("nan")


_Contender = Callable[[Sequence[str], int], _Run]  # texts and calls in flight
_Runs = dict[tuple[str, int], list[_Run]]  # by contender and calls in flight


def measure(full: bool, console: Console) -> Result:
    """Give the service and the bare encoder the same new texts in turns; with `full`, Infinity's engines too."""
    texts = fresh_texts()
    rows: list[tuple[str, ...]] = []
    ratios: dict[str, float | None] = dict.fromkeys(_PEERS.values())
    with _service() as ours:
        with _bare() as bare:
            runs = _compare({_OURS: ours, _BARE: bare}, texts, _ROUNDS, console)
        rows += [_row(runs, name, in_flight) for name in (_OURS, _BARE) for in_flight in _TEXTS_BY_IN_FLIGHT]
        notes = () if full else ("Infinity was not run: it needs --full.",)
        for engine, name in _PEERS.items() if full else ():
            try:
                with _infinity(engine, console) as peer:
                    beside = _compare({_OURS: ours, name: peer}, texts, _PEER_ROUNDS, console)
            except InfinityMissing as error:
                notes = (*notes, f"{name} was not run: {error}.")
                continue
            rows += [_row(beside, name, in_flight) for in_flight in _TEXTS_BY_IN_FLIGHT]
            ratios[name] = _ratio(beside, name, _JUDGED)
    keys = {
        "miss_share_of_encode": _ratio(runs, _BARE, _JUDGED),
        "p50_ms": statistics.median(run.p50_ms for run in runs[_OURS, _JUDGED]),
        "p99_ms": statistics.median(run.p99_ms for run in runs[_OURS, _JUDGED]),
        "miss_vs_infinity": ratios[_PEERS["torch"]],
        "miss_vs_infinity_int8": ratios[_PEERS["int8"]],
    }
    return Result(_COLUMNS, rows, keys, (*_NOTES, *notes))


def _compare(contenders: Mapping[str, _Contender], texts: Iterator[str], rounds: int, console: Console) -> _Runs:
    """Run contenders in turns on the same texts, each time new ones."""
    runs: _Runs = defaultdict(list)
    warm_up = list(islice(texts, _WARM_UP_TEXTS))
    for contender in contenders.values():
        contender(warm_up, _JUDGED)
    for number in range(rounds):
        console.print(f"round {number + 1} of {rounds}: {', '.join(contenders)}")
        for in_flight, count in _TEXTS_BY_IN_FLIGHT.items():
            same = list(islice(texts, count))
            for name, contender in contenders.items():
                runs[name, in_flight].append(contender(same, in_flight))
    return runs


@contextmanager
def _service() -> Iterator[_Contender]:
    with running_service() as service, open_method(service.address, EMBED) as method:

        def ask(texts: Sequence[str], in_flight: int) -> _Run:
            before = count_encodes(service.address)
            run = _ask(method, [embed_request([text]) for text in texts], in_flight)
            assert count_encodes(service.address) - before == len(texts), "a text was not a miss"
            return run

        yield ask


@contextmanager
def _bare() -> Iterator[_Contender]:
    with bare_encoder() as encode:
        yield lambda texts, _: _Run(len(texts) / encode(texts))


@contextmanager
def _infinity(engine: EngineName, console: Console) -> Iterator[_Contender]:
    prepare_infinity(console)
    with running_infinity(engine) as method:
        yield lambda texts, in_flight: _ask(method, list(map(json_request, texts)), in_flight)


def _ask(method: Method, requests: Sequence[bytes], in_flight: int) -> _Run:
    load = closed_loop(method, requests, in_flight=in_flight).expect_answers()
    return _Run(load.rate, load.milliseconds(50), load.milliseconds(99))


def _ratio(runs: _Runs, name: str, in_flight: int) -> float:
    """Our rate over another's on the same texts."""
    pairs = zip(runs[_OURS, in_flight], runs[name, in_flight], strict=True)
    return statistics.median(ours.rate / other.rate for ours, other in pairs)


def _row(runs: _Runs, name: str, in_flight: int) -> tuple[str, ...]:
    rate, p50, p99 = [
        statistics.median(getattr(run, figure) for run in runs[name, in_flight])
        for figure in ("rate", "p50_ms", "p99_ms")
    ]
    times = ("", "") if name == _BARE else (f"{p50:,.1f}", f"{p99:,.1f}")
    ratio = "" if name == _OURS else f"{_ratio(runs, name, in_flight):.2f}"
    return (name, str(in_flight), f"{rate:,.0f}", *times, ratio)


if __name__ == "__main__":
    main("serve", __doc__ or "", measure)
