"""A live space moves to another model and back, under load: calls that fail or mix spaces, their latency, and how long a roll-back takes.

There is no peer that does this; the floor of each phase's latency is the same load on the old space alone, in the same run.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rich.console import Console

from benchmarks.common.run import Result, main
from embedder.demo.daemon import running_daemon
from embedder.demo.data import load_articles
from embedder.demo.second_model import write_second_model
from embedder_client import Client, ClientSettings

_CALLERS = 2
_CALL_ITEMS = 16
_HELD = 600
_NEW_SHARE = 0.02
_PHASE_S = 12.0
_TURNS = 5
_FULL_TURNS = 20
_SPACES = ("default@1", "default@2")


@dataclass(slots=True)
class Load:
    """Callers in threads: mostly contents that are held, now and then a new one; every answer is held against its space."""

    target: str
    texts: list[str]
    phase: str = "start"
    latencies: dict[str, list[float]] = field(default_factory=dict)
    answers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    mixed: int = 0
    known: dict[tuple[str, int], bytes] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        settings = ClientSettings(client_name="load", retry_attempts=1, timeout_s=60)
        number = 0
        with Client(self.target, settings=settings) as client:
            while not self.stop.is_set():
                rows = generator.permutation(_HELD)[:_CALL_ITEMS].tolist()
                texts = [self.texts[row] for row in rows]
                if generator.random() < _NEW_SHARE * _CALL_ITEMS:
                    number += 1
                    texts[-1], rows[-1] = f"{texts[-1]} {seed} {number}", -1
                phase, start = self.phase, time.perf_counter()
                try:
                    result = client.embed(texts)
                    result.raise_for_failures()
                except Exception as error:  # noqa: BLE001 - counted, whatever it is
                    self.failures.append(repr(error))
                    continue
                self._note(phase, time.perf_counter() - start, result.provenance.space, rows, result.vectors)

    def wait_for(self, space: str) -> float:
        """Wait for the next answers in a space; returns the seconds until the first."""
        seen, start = self.answers[space], time.perf_counter()
        while self.answers[space] == seen:
            time.sleep(0.0005)
        return time.perf_counter() - start

    def _note(self, phase: str, seconds: float, space: str, rows: list[int], vectors: np.ndarray) -> None:
        with self.lock:
            self.answers[space] += 1
            self.latencies.setdefault(phase, []).append(seconds)
            for row, vector in zip(rows, vectors, strict=True):
                if row >= 0 and self.known.setdefault((space, row), vector.tobytes()) != vector.tobytes():
                    self.mixed += 1


def main_migration() -> None:
    main("migration", __doc__.splitlines()[0] if __doc__ else "", measure)


def measure(full: bool, console: Console) -> Result:
    articles = [article.text[:800] for article in load_articles()[: 3 * _HELD]]
    with TemporaryDirectory() as folder:
        model = write_second_model(Path(folder) / "second")
        data_dir = Path(folder) / "service"
        with running_daemon(data_dir) as target, _loaded(target, articles) as load:
            spent = _migrate(load, data_dir, model, turns=_FULL_TURNS if full else _TURNS, console=console)
    return _result(load, spent)


@contextmanager
def _loaded(target: str, texts: list[str]) -> Iterator[Load]:
    load = Load(target, texts)
    with Client(target, settings=ClientSettings(timeout_s=120)) as client:
        client.embed(texts[:_HELD], lane="bulk", durable=True)
    threads = [threading.Thread(target=load.run, args=(seed,)) for seed in range(_CALLERS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop.set()
        for thread in threads:
            thread.join()


def _migrate(load: Load, data_dir: Path, model: Path, *, turns: int, console: Console) -> dict[str, list[float]]:
    spent: dict[str, list[float]] = {}

    def spaces(*arguments: str) -> float:
        start = time.perf_counter()
        command = [sys.executable, "-m", "embedder.cli.spaces", *arguments, "--data-dir", str(data_dir)]
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - start

    def phase(name: str) -> None:
        console.print(name, style="dim")
        load.phase = name

    phase("old space alone")
    time.sleep(_PHASE_S)
    phase("while the second model loads")
    spent["create"] = [spaces("create", "default@2", "--model", str(model))]
    phase("both loaded")
    time.sleep(_PHASE_S)
    phase("shadow of a fifth")
    spaces("shadow", "default@2", "--rate", "0.2")
    time.sleep(_PHASE_S)
    spaces("shadow", "default@2", "--rate", "0")
    phase("the new space is filled")
    with Client(load.target, settings=ClientSettings(timeout_s=120)) as client:
        client.embed(load.texts[:_HELD], space="default@2", lane="bulk", durable=True)
        phase("there and back by command")
        for _ in range(turns):
            for verb, arguments, space in (
                ("cut-over", ("cut-over", "default", "default@2"), "default@2"),
                ("roll-back", ("rollback", "default"), "default@1"),
            ):
                start = time.perf_counter()
                spaces(*arguments)
                load.wait_for(space)
                spent.setdefault(f"{verb} by command", []).append(time.perf_counter() - start)
        phase("there and back by SetAlias")
        for _, space in pairwise(_SPACES * (2 * turns)):
            start = time.perf_counter()
            client.set_alias("default", space)
            load.wait_for(space)
            spent.setdefault("alias by SetAlias", []).append(time.perf_counter() - start)
    return spent


def _result(load: Load, spent: dict[str, list[float]]) -> Result:
    rows = []
    p99 = {}
    for name, seconds in load.latencies.items():
        if name == "start":
            continue
        p50, p99[name] = np.percentile(seconds, [50, 99])
        rows.append([name, f"{len(seconds):,}", f"{1_000 * p50:.2f}", f"{1_000 * p99[name]:.2f}"])
    for name, seconds in spent.items():
        rows.append(
            [name, f"{len(seconds)}", f"{1_000 * statistics.median(seconds):.0f}", f"{1_000 * max(seconds):.0f} (max)"]
        )
    floor = p99["old space alone"]
    calls = sum(load.answers.values()) + len(load.failures)
    return Result(
        columns=["phase or step", "calls or times", "p50, ms", "p99, ms"],
        rows=rows,
        keys={
            "failed_calls": float(len(load.failures)),
            "mixed_answers": float(load.mixed),
            "calls": float(calls),
            "roll_back_max_s": max(spent["roll-back by command"]),
            "cut_over_max_s": max(spent["cut-over by command"]),
            "set_alias_max_s": max(spent["alias by SetAlias"]),
            "load_s": spent["create"][0],
            "p99_while_loading_vs_alone": p99["while the second model loads"] / floor,
            "p99_both_loaded_vs_alone": p99["both loaded"] / floor,
            "p99_shadow_vs_alone": p99["shadow of a fifth"] / floor,
        },
        notes=(
            f"{calls:,} calls of {_CALL_ITEMS} texts by {_CALLERS} threads in the benchmark's own process, {_NEW_SHARE:.0%} of the texts "
            f"new; {len(load.failures)} failed, {load.mixed} rows of another space than their answer's.",
            "The default space, and its text tower cut to four layers. A step's time runs from the command's start to the first answer in "
            "the other space, the interpreter's start included; callers and service share the cores.",
        ),
    )


if __name__ == "__main__":
    main_migration()
