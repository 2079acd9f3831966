"""A real service of two front-ends, an engine and a keeper, each a process, on an ephemeral port of loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .processes import Processes, running_processes, wait_until


@pytest.fixture(scope="session")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with running_processes(
        tmp_path_factory.mktemp("frontends") / "service", "--max-text-bytes", "64 KiB", "--max-queue-ms", "120000"
    ) as processes:
        yield processes


@pytest.fixture
def service(shared_service: Processes) -> Processes:
    """The one service of the run, healthy again whatever the test before did to it."""
    wait_until(shared_service.is_healthy)
    return shared_service
