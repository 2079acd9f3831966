"""The daemon as users run it: a process that is started, asked, restarted and told to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import numpy as np
import pytest

from embedder_client import Client, ClientSettings, ItemSource

Start = Callable[..., AbstractContextManager[str]]


def _client(target: str, name: str = "tests") -> Client:
    return Client(target, settings=ClientSettings(client_name=name, timeout_s=60))


def test_restart_keeps_every_entry_and_encodes_nothing_again(start_daemon: Start) -> None:
    texts = [f"kept over a restart, number {number}" for number in range(100)]
    with start_daemon() as target, _client(target) as client:
        first = client.embed(texts)
        assert client.savings().total.encodes == 100
    with start_daemon() as target, _client(target) as client:
        second = client.embed(texts)
        total = client.savings().total
        assert set(second.sources) == {ItemSource.CACHE}
        assert np.array_equal(first.vectors, second.vectors)
        assert (total.encodes, total.contents_asked, total.cache_hits) == (100, 200, 100)
        assert total.contents_unique is not None
        assert total.contents_unique.value == 100


def test_ten_clients_asking_for_the_same_500_new_contents_cause_500_encodes(start_daemon: Start) -> None:
    texts = [f"asked by ten at once, number {number}" for number in range(500)]
    with start_daemon("--max-queue-ms", "120000") as target:
        barrier = threading.Barrier(10)

        def ask(number: int) -> np.ndarray:
            with _client(target, f"client {number}") as client:
                barrier.wait()
                result = client.embed(texts)
                result.raise_for_failures()
                return result.vectors

        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(ask, range(10)))
        with _client(target) as client:
            report = client.savings(group_by="client")
    assert report.total.encodes == 500
    assert report.total.contents_asked == 5_000
    assert report.total.cache_hits + report.total.in_flight_hits == 4_500
    assert len(report.rows) == 10
    assert all(np.array_equal(answers[0], answer) for answer in answers)


def test_sigterm_lets_running_calls_end(start_daemon: Start, tmp_path: Path) -> None:
    texts = [f"a rather long text that takes the encoder its time, number {number} " * 12 for number in range(128)]
    with ThreadPoolExecutor(1) as pool, ExitStack() as clients:
        with start_daemon() as target:
            client = clients.enter_context(_client(target))
            running = pool.submit(client.embed, texts)
            while client.cache_stats().misses == 0:
                time.sleep(0.01)
        # The daemon was told to stop while the call ran, and has ended.
        running.result().raise_for_failures()
    assert '"event": "stopped"' in (tmp_path / "service/daemon.log").read_text()


def test_kill_loses_no_committed_entry(tmp_path: Path) -> None:
    texts = [f"durable, number {number}" for number in range(50)]
    from embedder.demo.daemon import running_daemon

    with running_daemon(tmp_path) as target, _client(target) as client:
        vectors = client.embed(texts, durable=True).vectors
        for process in _children():
            os.kill(process, signal.SIGKILL)
    with running_daemon(tmp_path) as target, _client(target) as client:
        again = client.embed(texts)
        assert set(again.sources) == {ItemSource.CACHE}
        assert np.array_equal(again.vectors, vectors)


def test_kill_in_mid_trace_loses_the_last_second_of_counts_at_most_and_the_report_says_so(tmp_path: Path) -> None:
    from embedder.demo.daemon import running_daemon

    texts = [f"asked again and again, number {number}" for number in range(20)]
    answered: list[tuple[float, int]] = []  # when, and how many contents by then
    with running_daemon(tmp_path) as target, _client(target) as client:
        client.embed(texts, durable=True)
        started_at = time.monotonic()
        while time.monotonic() < started_at + 4:
            client.embed(texts)
            answered.append((time.monotonic(), (len(answered) + 2) * len(texts)))
        killed_at = time.monotonic()
        for process in _children():
            os.kill(process, signal.SIGKILL)
    with running_daemon(tmp_path) as target, _client(target) as client:
        report = client.savings(group_by="task")
    # A second between two writes, and one for a machine that has other things to do.
    by_then = max(count for when, count in answered if when < killed_at - 2)
    assert by_then <= report.total.contents_asked <= answered[-1][1]
    assert report.total.encodes == len(texts)
    assert sum(row.contents_asked for row in report.rows) == report.total.contents_asked
    assert len(report.unclean_stops) == 1


def _children() -> list[int]:
    """Return the daemons among this process's children; what other tests killed may still lie there unreaped."""
    import psutil

    alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    return [child.pid for child in alive if "embedder.cli.serve" in " ".join(child.cmdline())]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--model", "no-such-model"], "no-such-model"),
        (["--model", "open_clip:ViT-B-32/no-such-weights"], "no-such-weights"),
        (["--listen-address", "0.0.0.0:0"], "--insecure-listen"),
        (["--space", "Default"], "NAME@VERSION"),
        (["--config", "/no/such/file.toml"], "/no/such/file.toml"),
        (["--max-batch-tokens", "1"], "greater than or equal to 16"),
    ],
)
def test_wrong_setting_ends_the_start_with_a_clear_error(tmp_path: Path, flags: list[str], words: str) -> None:
    command = [sys.executable, "-m", "embedder.cli.serve", "--data-dir", str(tmp_path), *flags]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2
    assert words in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr


def test_help_says_what_each_setting_does() -> None:
    command = [sys.executable, "-m", "embedder.cli.serve", "--help"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "--max-batch-tokens" in ended.stdout
    assert "Another model is another space" in " ".join(ended.stdout.split())
