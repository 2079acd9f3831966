"""Services on small models of random weights, and what asks them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from embedder.config import load_settings
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder.spaces.administration import SpaceAdministration
from embedder.spaces.document import first_document
from embedder.spaces.serving import SpaceReport
from embedder_client import Client, ClientSettings
from tests.encoders.conftest import write_text_folder


@dataclass(frozen=True)
class Desk:
    """A running service, what changes its spaces, and its folder."""

    service: Service
    runtime: Runtime
    spaces: SpaceAdministration
    data_dir: Path

    @contextmanager
    def client(self, name: str = "tests") -> Iterator[Client]:
        settings = ClientSettings(client_name=name, retry_attempts=1, timeout_s=60)
        with Client(self.service.address, settings=settings) as client:
            yield client

    def create(self, name: str, model: Path | str) -> SpaceReport:
        from embedder.spaces.administration import new_row

        space = self.spaces.create(new_row(name, model=str(model), precision="fp32"), wait_s=120)
        assert space is not None
        return space


Start = Callable[..., Desk]


def wait_until(is_so: Callable[[], Any], *, what: str) -> None:
    """Wait for a condition, and fail when it does not come."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three text models of random weights, alike in all but these."""
    folder = tmp_path_factory.mktemp("models")
    return {name: write_text_folder(folder / name, seed=seed) for seed, name in enumerate(("old", "new", "third"))}


@pytest.fixture
def start(tmp_path: Path, models: dict[str, Path]) -> Iterator[Start]:
    """Return a function that starts a service on this test's folder; the last one is stopped at the end, or by the next start."""
    running: list[Service] = []

    def stop() -> None:
        while running:
            running.pop().stop()

    def begin(**settings: Any) -> Desk:
        stop()
        data_dir = tmp_path / "service"
        given = {
            "listen_address": "127.0.0.1:0",
            "data_dir": data_dir,
            "cache_limit_bytes": "64 MiB",
            "model": str(models["old"]),
            "precision": "fp32",
            "drain_grace_ms": 1_000,
            "decode_workers": 0,
        }
        service = Service(load_settings(**(given | settings)))
        running.append(service)
        runtime = service.start()
        defaults = lambda: first_document("default@1", model=str(models["old"]), precision="fp32")  # noqa: E731
        return Desk(service, runtime, SpaceAdministration(data_dir, defaults=defaults, wait_s=60), data_dir)

    yield begin
    stop()
