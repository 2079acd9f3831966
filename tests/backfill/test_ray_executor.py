"""The Ray executor: its cases against a real local Ray, in a process of their own, and how many workers a cluster has room for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from embedder.backfill.ray_pool import shape_of
from embedder.errors import ConfigurationError

CASES = Path(__file__).parent / "ray_cluster_cases.py"
# Names the processes of one run by their environment.
_MARK = "EMBEDDER_TEST_RAY_RUN"


@pytest.fixture
def marked() -> Iterator[dict[str, str]]:
    """An environment for Ray whose processes are ended behind the test: they outlive the one that started them where it is killed."""
    mark = f"{_MARK}={uuid.uuid4().hex}"
    name, value = mark.split("=")
    yield {**os.environ, name: value}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                os.kill(int(process.name), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_cases_pass_on_a_real_cluster(marked: dict[str, str], tmp_path: Path) -> None:
    # Ray keeps threads in a process that was connected once, and aborts it where it loses its node: no place for other tests.
    told = tmp_path / "told.txt"
    with told.open("w") as output:
        command = [sys.executable, "-m", "pytest", str(CASES)]
        ended = subprocess.run(command, env=marked, stdout=output, stderr=output, timeout=840, check=False)
    assert ended.returncode == 0, told.read_text()[-8000:]
    assert " skipped" not in told.read_text().splitlines()[-1]


@pytest.mark.slow
def test_an_address_without_a_cluster_is_told(marked: dict[str, str]) -> None:
    program = "from embedder.backfill.ray_pool import connect; connect('127.0.0.1:1')"
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=marked, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 1
    assert "ConfigurationError" in ended.stderr
    assert "127.0.0.1:1" in ended.stderr.splitlines()[-1]


class TestShape:
    """How many workers a cluster has room for."""

    @staticmethod
    def node(*, alive: bool = True, **resources: float) -> dict[str, Any]:
        return {"Alive": alive, "Resources": resources}

    @pytest.mark.parametrize(
        ("device", "threads", "workers", "cpus", "gpus"),
        [("auto", 0, 6, 1, 1), ("cpu", 0, 3, 8, 0), ("cpu", 4, 6, 4, 0), ("cpu", 16, 1, 16, 0)],
    )
    def test_gpus_come_first_and_processors_go_by_threads(
        self, device: str, threads: int, workers: int, cpus: int, gpus: int
    ) -> None:
        nodes = [self.node(CPU=16, GPU=4), self.node(CPU=8, GPU=2), self.node(alive=False, CPU=64, GPU=8)]
        shape = shape_of(nodes, device=device, threads=threads)
        assert (shape.workers, shape.cpus, shape.gpus) == (workers, cpus, gpus)

    @pytest.mark.parametrize("nodes", [[], [{"Alive": True, "Resources": {"CPU": 2.0}}]])
    def test_a_cluster_without_room_is_told(self, nodes: list[dict[str, Any]]) -> None:
        with pytest.raises(ConfigurationError, match="no room"):
            shape_of(nodes, device="cpu", threads=4)
