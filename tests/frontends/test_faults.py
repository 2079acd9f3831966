"""Processes that die under load: every request is answered once, the others go on, and the service is healthy again."""

from __future__ import annotations

import signal
from pathlib import Path

import psutil
import pytest
from grpc_health.v1 import health_pb2

from .load import NUMBERS, load_on
from .processes import Processes, running_processes, wait_until


def test_engine_killed_under_load_costs_no_answer_and_is_started_again(service: Processes) -> None:
    with service.client_of("frontend-0") as client:
        client.embed(["held when the engine dies"], durable=True).raise_for_failures()
        with load_on(service, "frontend-0", "frontend-1") as loads:
            service.kill("engine-0")
            wait_until(lambda: service.status_of("frontend-0") == health_pb2.HealthCheckResponse.NOT_SERVING)
            assert client.embed(["held when the engine dies"]).sources[0].value == "cache"
            wait_until(lambda: all(load.outcomes["UNAVAILABLE"] for load in loads))
            wait_until(service.is_healthy)
            before = [load.outcomes["OK"] for load in loads]
            wait_until(lambda: all(load.outcomes["OK"] > least for load, least in zip(loads, before, strict=True)))
    for load in loads:
        assert set(load.outcomes) <= {"OK", "UNAVAILABLE", "PARTLY"}


def test_front_end_killed_under_load_leaves_the_other_alone(service: Processes) -> None:
    with load_on(service, "frontend-0", "frontend-1") as (doomed, other):
        before = service.process("frontend-0").pid
        service.kill("frontend-0")
        wait_until(lambda: service.process("frontend-0").pid != before)
        wait_until(service.is_healthy)
        least = other.outcomes["OK"]
        wait_until(lambda: other.outcomes["OK"] > least)
    assert set(other.outcomes) == {"OK"}
    assert set(doomed.outcomes) <= {"OK", "UNAVAILABLE"}
    with service.client_of("frontend-0") as client:
        client.embed(["served by the successor"]).raise_for_failures()


def test_keeper_killed_under_load_costs_no_vector(service: Processes) -> None:
    with load_on(service, "frontend-0", "frontend-1") as loads:
        before = service.process("keeper-0").pid
        service.kill("keeper-0")
        wait_until(lambda: service.process("keeper-0").pid != before)
        with service.client_of("frontend-1") as client:
            wait_until(lambda: not client.embed([f"stored again {next(NUMBERS)}"], durable=True).failures)
    for load in loads:
        assert set(load.outcomes) == {"OK"}


@pytest.mark.parametrize("name", ["engine-0", "frontend-1"])
def test_process_killed_while_idle_is_started_again(service: Processes, name: str) -> None:
    before = service.process(name).pid
    service.kill(name)
    wait_until(lambda: service.process(name).pid != before)
    wait_until(service.is_healthy)
    with service.client_of("frontend-1") as client:
        client.embed([f"after the death of {name}"]).raise_for_failures()


def test_supervisor_killed_leaves_no_process_behind(tmp_path: Path) -> None:
    with running_processes(tmp_path / "service") as service:
        children = service.supervisor.children()
        assert len(children) == 4
        service.supervisor.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=60)
        assert not alive
