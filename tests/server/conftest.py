"""A real service with the embedded default space, one for the whole run, on an ephemeral port of loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from embedder.config import load_settings
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_client import Client, ClientSettings


@dataclass(frozen=True)
class Running:
    """A started service, and what it is made of."""

    service: Service
    runtime: Runtime

    @property
    def target(self) -> str:
        return self.service.address


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = load_settings(
        listen_address="127.0.0.1:0",
        data_dir=tmp_path_factory.mktemp("service"),
        cache_limit_bytes="64 MiB",
        max_text_bytes="64 KiB",
        drain_grace_ms=1_000,
    )
    service = Service(settings)
    runtime = service.start()
    yield Running(service, runtime)
    service.stop()


@pytest.fixture
def client(running: Running) -> Iterator[Client]:
    with Client(running.target, settings=ClientSettings(client_name="tests", retry_attempts=1, timeout_s=60)) as client:
        yield client
