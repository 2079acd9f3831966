"""The whole way with the commands as people type them, on a real daemon with two real models, under load from start to end."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder.demo.daemon import running_daemon
from embedder.demo.data import load_articles
from embedder.demo.second_model import write_second_model
from embedder_client import Client, ClientSettings

from .conftest import wait_until

pytestmark = pytest.mark.slow

ARTICLES = 240
CALLERS = 3


class Callers:
    """Callers that never pause: they embed articles and ask a head, and hold every answer against its own space."""

    def __init__(self, target: str, texts: list[str]) -> None:
        self._target = target
        self._texts = texts
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.versions: set[tuple[str, int]] = set()
        self.failures: list[str] = []
        self._rows: dict[tuple[str, int], bytes] = {}
        self.mixed: list[str] = []

    def run(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        settings = ClientSettings(client_name=f"caller {seed}", retry_attempts=1, timeout_s=60)
        with Client(self._target, settings=settings) as client:
            while not self._stop.is_set():
                rows = generator.permutation(len(self._texts))[:16].tolist()
                try:
                    self._ask(client, rows, with_head=bool(generator.integers(2)))
                except Exception as error:  # noqa: BLE001 - counted, whatever it is
                    self.failures.append(repr(error))

    def _ask(self, client: Client, rows: list[int], *, with_head: bool) -> None:
        texts = [self._texts[row] for row in rows]
        if with_head:
            result = client.predict(texts, ["topic"], include_vectors=True)
            assert not result.bridges
            vectors = result.vectors
            version = result.predictions[0].version
        else:
            result = client.embed(texts)  # type: ignore[assignment]
            vectors, version = result.vectors, 0
        result.raise_for_failures()
        assert vectors is not None
        space = result.provenance.space
        with self._lock:
            self.answers[space] += 1
            if version:
                self.versions.add((space, version))
            for row, vector in zip(rows, vectors, strict=True):
                # A content has one vector in a space; what the other space gives for it is not that one.
                known = self._rows.setdefault((space, row), vector.tobytes())
                if known != vector.tobytes():
                    self.mixed.append(f"{space}: {row}")

    def stop(self) -> None:
        self._stop.set()

    def wait_for(self, space: str) -> None:
        seen = self.answers[space]
        wait_until(lambda: self.answers[space] > seen + 20, what=f"no answers from {space}")


def command(module: str, *arguments: object, code: int = 0) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", f"from {module} import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == code, ended.stdout + ended.stderr
    return " ".join((ended.stdout + ended.stderr).split()) if code or "--json" not in arguments else ended.stdout


@pytest.fixture(scope="module")
def articles(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    chosen = load_articles()
    chosen = [chosen[row] for row in np.random.default_rng(0).permutation(len(chosen))[:ARTICLES]]
    file = tmp_path_factory.mktemp("articles") / "labelled.jsonl"
    file.write_text("".join(json.dumps({"text": one.text[:600], "label": one.topic}) + "\n" for one in chosen))
    return [one.text[:600] for one in chosen], file


def test_live_space_moves_to_another_model_and_back_and_no_call_notices(
    tmp_path: Path, articles: tuple[list[str], Path]
) -> None:
    texts, labelled = articles
    model = write_second_model(tmp_path / "second", layers=4)
    data_dir = tmp_path / "service"

    def spaces(*arguments: object, code: int = 0) -> str:
        return command("embedder.cli.spaces", *arguments, "--data-dir", data_dir, code=code)

    with running_daemon(data_dir, ["--precision", "fp32"]) as target:
        to = ("--target", target)
        heads = ("--heads-dir", data_dir / "heads", *to, "--name", "topic")
        command("embedder.cli.heads", "train", labelled, *heads, "--kind", "linear")
        callers = Callers(target, texts)
        with ThreadPoolExecutor(CALLERS) as pool, Client(target) as client:
            running = [pool.submit(callers.run, seed) for seed in range(CALLERS)]
            try:
                wait_until(lambda: callers.answers["default@1"] > 5, what="nobody calls")
                assert "default@2 is ready" in spaces("create", "default@2", "--model", model, "--precision", "fp32")
                spaces("shadow", "default@2", "--rate", "0.5")
                wait_until(lambda: client.spaces().spaces[1].state == "shadow", what="no shadow")
                told = spaces("cut-over", "default", "default@2", code=1)
                assert "no version in the new space: topic" in told
                command(
                    "embedder.cli.heads",
                    "train",
                    labelled,
                    *heads,
                    "--kind",
                    "linear",
                    "--space",
                    "default@2",
                    "--no-current",
                )
                filled = json.loads(spaces("backfill", "default@2", labelled, "--from-cache", "default", *to, "--json"))
                assert filled["left"] == 0
                drift = json.loads(
                    spaces(
                        "drift",
                        "default@1",
                        "default@2",
                        "--labelled",
                        labelled,
                        *to,
                        "--html",
                        tmp_path / "d.html",
                        "--json",
                    )
                )
                assert 0.1 < drift["neighbour_overlap"]["value"] < 0.95
                assert drift["heads"]["new"]["accuracy"]["value"] > 0.8
                assert "default@2" in (tmp_path / "d.html").read_text()
                bridge = json.loads(spaces("bridge", "default@2", "default@1", *to, "--json"))
                assert bridge["metrics"]["cosine"]["value"] > 0.5
                assert bridge["metrics"]["topic@1.agreement"]["value"] > 0.7
                wait_for_version(client, 2)
                spaces("cut-over", "default", "default@2", "--heads", "move", "--reason", "a better model")
                callers.wait_for("default@2")
                spaces("rollback", "default", "--reason", "not yet")
                callers.wait_for("default@1")
                spaces("cut-over", "default", "default@2")
                callers.wait_for("default@2")
                assert "points at" in spaces("retire", "default@2", code=1)
                assert "default@1 is retired" in spaces("retire", "default@1", "--erase")
                callers.wait_for("default@2")
            finally:
                callers.stop()
            for future in running:
                future.result()
            listed = client.spaces()
        told: Any = json.loads(spaces("list", "--json"))
    assert callers.failures == []
    assert callers.mixed == []
    assert callers.versions == {("default@1", 1), ("default@2", 2)}
    assert [space.name for space in listed.spaces] == ["default@2"]
    assert listed.aliases == {"default": "default@2"}
    assert [move["is_rollback"] for move in told["moves"]] == [False, True, False]


def wait_for_version(client: Client, version: int) -> None:
    wait_until(
        lambda: any(head.version == version for head in client.list_heads().heads), what="the new head is not served"
    )
