"""The savings report against counts, clocks and an alternative of our own: a Zipf trace through the real service.

100,000 requests, each one content for one of 8 heads, over 5,000 contents; as calls of 100 contents for one head (`--full`: of 10 too).
The encoder is wrapped in a counter with a clock of its own. A sample of the calls is then really encoded once for each ask.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console

from benchmarks.common.run import Result, main
from benchmarks.common.texts import fresh_texts
from embedder.cli.logs import configure_logs
from embedder.config import load_settings
from embedder.encoders.base import Encoder, Tokens, Vectors
from embedder.encoders.chunk_runner import CHUNK_THREADS
from embedder.encoders.load import load_encoder
from embedder.savings.cpu_clock import ThreadFamilyClock
from embedder.server import encoder_opening
from embedder.server.metering import open_meter
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_client import Client, ClientSettings, SavingsReport
from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task

_REQUESTS, _CONTENTS, _HEADS = 100_000, 5_000, 8
_CALLS_IN_FLIGHT = 4
_SAMPLED_ASKS = 3_200
_METERINGS = 2_000
_SEED = 7
_BATCH_TOKENS = 4_096

_Call = tuple[str, tuple[int, ...]]  # a head, and positions of contents


@dataclass
class _CountingEncoder:
    """The real encoder, with a count and a clock that the service does not know of."""

    real: Encoder
    clock: ThreadFamilyClock = field(default_factory=lambda: ThreadFamilyClock(pool_name=CHUNK_THREADS))
    is_counting: bool = False
    encodes: int = 0
    batches: int = 0
    cpu_s: float = 0.0
    wall_s: float = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        if not self.is_counting:
            return self.real.encode_texts(tokens)
        start, mark = time.perf_counter(), self.clock.start()
        vectors = self.real.encode_texts(tokens)
        self.cpu_s += self.clock.stop(mark)
        self.wall_s += time.perf_counter() - start
        self.encodes += len(tokens)
        self.batches += 1
        return vectors


def measure(full: bool, console: Console) -> Result:
    """Play the trace, and check the report."""
    configure_logs(log_format="console", level="error")
    drawn = np.random.default_rng(_SEED)
    source = fresh_texts(_SEED)
    texts = [next(source) for _ in range(_CONTENTS)]
    rows: list[tuple[str, ...]] = []
    keys: dict[str, float] = {}
    for size in (100, 10) if full else (100,):
        calls = _trace(drawn, size)
        with _service() as (service, runtime, counter):
            heads = _publish_heads(runtime)
            with Client(service.address, settings=ClientSettings(client_name="trace", timeout_s=120)) as client:
                console.print(f"playing {_REQUESTS:,} requests in calls of {size}")
                counter.is_counting = True
                wall_s = _play(client, heads, calls, texts)
                counter.is_counting = False
                report = client.savings(group_by="head")
            console.print(f"really encoding {_SAMPLED_ASKS:,} asks, one head after the other")
            alternative_s = _run_alternative(counter.real, calls, texts, drawn)
            metering_s = _metering_s()
        found = _check(report, counter, alternative_s=alternative_s, metering_s=metering_s)
        rows.append(_row(size, report, counter, wall_s, found))
        keys = keys or found
    return Result(_COLUMNS, rows, keys, _NOTES)


_COLUMNS = (
    *("calls of", "requests/s", "encodes", "hit rate", "shared s", "alternative s", "saved", "ledger-counted"),
    *("formula err", "alternative err", "metering"),
)
_NOTES = (
    "Seconds are CPU seconds of the forward passes, measured, with look-ups and heads; the alternative is estimated by the service.",
    "Formula error: the reported saving against the formula over this benchmark's own count of requests and encodes and its own clock. "
    f"Alternative error: the report's estimate for an ask against {_SAMPLED_ASKS:,} asks of the same calls that were really encoded.",
    "Metering: time of one measurement over the mean time of a batch.",
)


def _trace(drawn: np.random.Generator, size: int) -> list[_Call]:
    """Draw requests: contents by Zipf's law (exponent 1), heads evenly; a call holds requests for one head."""
    weights = 1 / np.arange(1, _CONTENTS + 1)
    contents = drawn.choice(_CONTENTS, size=_REQUESTS, p=weights / weights.sum())
    groups = contents.reshape(-1, size)  # (calls, size)
    return [(f"head-{number % _HEADS}", tuple(group.tolist())) for number, group in enumerate(groups)]


@contextmanager
def _service() -> Iterator[tuple[Service, Runtime, _CountingEncoder]]:
    counters: list[_CountingEncoder] = []
    load = load_encoder

    def counted(*arguments: Any, **options: Any) -> Any:
        counters.append(_CountingEncoder(load(*arguments, **options)))
        return counters[0]

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(encoder_opening, "load_encoder", counted):
        settings = load_settings(listen_address="127.0.0.1:0", data_dir=Path(folder), log_level="error")
        service = Service(settings)
        runtime = service.start()
        try:
            yield service, runtime, counters[0]
        finally:
            service.stop()


def _publish_heads(runtime: Runtime) -> list[str]:
    """Publish heads of random weights: what they say does not matter here, what they cost does."""
    space = runtime.spaces.resolve("")
    registry = HeadRegistry(runtime.settings.heads_path)
    drawn = np.random.default_rng(_SEED)
    names = [f"head-{number}" for number in range(_HEADS)]
    for name in names:
        manifest = HeadManifest(
            name=name,
            kind=HeadKind.LINEAR,
            task=Task.SINGLE_LABEL,
            space_digest=space.digest.hex(),
            dim=space.info.dim,
            labels=tuple(f"label-{label}" for label in range(10)),
            thresholds=(),
            data_digest="0" * 64,
        )
        weight = drawn.standard_normal((10, space.info.dim)).astype(np.float32)
        registry.publish(Head(manifest, {"weight": weight, "bias": np.zeros(10, np.float32)}))
    end_s = time.monotonic() + 30
    while len(runtime.heads.snapshot.served()) < _HEADS:
        if time.monotonic() > end_s:
            raise RuntimeError("the service did not pick the heads up within 30 s")
        time.sleep(0.05)
    return names


def _play(client: Client, heads: Sequence[str], calls: Sequence[_Call], texts: Sequence[str]) -> float:
    """Send every call, some at a time; returns wall seconds."""

    def send(call: _Call) -> None:
        head, contents = call
        client.predict([texts[content] for content in contents], heads=[head]).raise_for_failures()

    start = time.perf_counter()
    with ThreadPoolExecutor(_CALLS_IN_FLIGHT) as pool:
        for _ in pool.map(send, calls):
            pass
    return time.perf_counter() - start


def _run_alternative(
    encoder: Encoder, calls: Sequence[_Call], texts: Sequence[str], drawn: np.random.Generator
) -> float:
    """Encode some of the calls as tasks by themselves would: every ask of every call; returns device seconds an ask."""
    count = max(1, _SAMPLED_ASKS // len(calls[0][1]))
    sample = [calls[number] for number in drawn.choice(len(calls), size=count, replace=False)]
    prepared = [encoder.prepare_texts([texts[content] for content in contents]) for _, contents in sample]

    def run() -> float:
        clock = ThreadFamilyClock(pool_name=CHUNK_THREADS)
        encoder.encode_texts(prepared[0])
        mark = clock.start()
        for tokens in prepared:
            for batch in _batches(tokens):
                encoder.encode_texts(batch)
        return clock.stop(mark)

    return _in_own_thread(run) / sum(len(contents) for _, contents in sample)


def _batches(tokens: Sequence[Tokens]) -> Iterator[list[Tokens]]:
    """Fill batches as the engine does, by tokens."""
    batch: list[Tokens] = []
    for row in tokens:
        if batch and sum(map(len, batch)) + len(row) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(row)
    yield batch


def _metering_s() -> float:
    """Return wall seconds of one measurement around nothing."""

    def run() -> float:
        meter = open_meter("cpu")
        start = time.perf_counter()
        for _ in range(_METERINGS):
            meter.begin()
            meter.end()
        return (time.perf_counter() - start) / _METERINGS

    return _in_own_thread(run)


def _in_own_thread(run: Callable[[], float]) -> float:
    """Run in a thread that the meter may call its own, as the engine's is."""
    found: list[float] = []
    thread = threading.Thread(target=lambda: found.append(run()))
    thread.start()
    thread.join()
    return found[0]


def _check(
    report: SavingsReport, counter: _CountingEncoder, *, alternative_s: float, metering_s: float
) -> dict[str, float]:
    formula = report.formula
    assert formula is not None
    assert formula.lookup_time is not None
    reported = report.total.device_time_saved
    assert reported is not None
    heads_s = sum(term.asked * term.head_time.value for term in formula.heads if term.head_time)
    hit_rate = 1 - counter.encodes / _REQUESTS
    encode_s = counter.cpu_s / counter.encodes
    special_s = formula.alternative_s / sum(term.asked for term in formula.heads)
    shared_s = _REQUESTS * ((1 - hit_rate) * encode_s + formula.lookup_time.value) + heads_s
    saved_s = _REQUESTS * special_s - shared_s
    return {
        "encodes_ledger_minus_counted": float(report.total.encodes - counter.encodes),
        "saving_vs_formula_error": abs(reported.value - saved_s) / abs(saved_s),
        "alternative_error": abs(special_s / alternative_s - 1),
        "metering_share": metering_s / (counter.wall_s / counter.batches),
        "groups_minus_total": float(sum(row.contents_asked for row in report.rows) - report.total.contents_asked),
    }


def _row(
    size: int, report: SavingsReport, counter: _CountingEncoder, wall_s: float, found: dict[str, float]
) -> tuple[str, ...]:
    formula = report.formula
    assert formula is not None
    return (
        *(str(size), f"{_REQUESTS / wall_s:,.0f}", f"{counter.encodes:,}", f"{formula.hit_rate:.2%}"),
        *(f"{formula.shared_s:,.1f}", f"{formula.alternative_s:,.1f}"),
        f"{formula.formula_saved_s / formula.alternative_s:.1%}",
        f"{found['encodes_ledger_minus_counted']:.0f}",
        *(f"{found[key]:.3%}" for key in ("saving_vs_formula_error", "alternative_error", "metering_share")),
    )


if __name__ == "__main__":
    main("savings", __doc__ or "", measure)
