"""A real service with the embedded default space, one for the whole run, on an ephemeral port of loopback."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from embedder.config import load_settings
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_client import Client, ClientSettings

# A power model, so that energy can be told on machines without a meter.
_SAVINGS = """
device = "test core"
[devices."test core"]
per = "core"
idle_watts = { value = 1, source = "test", year = 2026 }
busy_watts = { value = 5, source = "test", year = 2026 }
"""


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
    folder = tmp_path_factory.mktemp("service")
    savings_file = folder / "plan.toml"
    savings_file.write_text(_SAVINGS)
    settings = load_settings(
        listen_address="127.0.0.1:0",
        data_dir=folder / "data",
        savings_file=savings_file,
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
