"""Dashboards, alerts and docs name metrics that are exported; and the real Prometheus reads them."""

from __future__ import annotations

import importlib.util
import json
import re
import socket
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedder.telemetry.catalogue import CATALOGUE
from embedder_client import Client
from tests.programs import find_program

from .conftest import Watched, wait_until

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/embedder.json"
ALERTS = ROOT / "deploy/prometheus/alerts.yml"

_EXPORTED = {name for metric in CATALOGUE for name in metric.series}
_LABELS = {metric.name: set(metric.labels) for metric in CATALOGUE}
_METRIC = re.compile(r"\b((?:embedder|process)_[a-z_]+)(?:\{([^}]*)\})?")


def _dashboard_queries() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    assert len(queries) > 15
    return queries


def _alert_queries() -> list[str]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule["expr"] for rule in group["rules"]]


@pytest.mark.parametrize("query", _dashboard_queries() + _alert_queries())
def test_every_query_names_metrics_and_labels_that_are_exported(query: str) -> None:
    named = _METRIC.findall(query)
    assert named or query.startswith("up{")
    for name, selector in named:
        if name.startswith("process_"):
            assert name == "process_resident_memory_bytes"
            continue
        assert name in _EXPORTED
        base = next(metric.name for metric in CATALOGUE if name in metric.series)
        assert set(re.findall(r"(\w+)\s*[=!]~?", selector)) <= _LABELS[base] | {"instance", "job"}


def test_dashboard_is_what_its_program_makes() -> None:
    spec = importlib.util.spec_from_file_location("make_dashboard", ROOT / "deploy/grafana/make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert json.loads(DASHBOARD.read_text()) == module.dashboard(), "run python deploy/grafana/make.py"


def test_panels_do_not_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in cells
                cells.add((x, y))


def test_docs_list_every_metric_as_it_is_declared() -> None:
    operations = (ROOT / "docs/operations.md").read_text()
    stale = [
        metric.name
        for metric in CATALOGUE
        if f"| `{metric.name}` | {metric.kind} | {', '.join(metric.labels)} | {metric.help} |" not in operations
    ]
    assert not stale
    told = re.findall(r"^\| `(embedder_[a-z_]+)` \|", operations, re.MULTILINE)
    assert told == [metric.name for metric in CATALOGUE]


def test_prometheus_accepts_the_rules_and_the_settings() -> None:
    promtool = find_program("promtool")
    for arguments in (["rules", ALERTS], ["config", ALERTS.parent / "prometheus.yml"]):
        ended = subprocess.run([promtool, "check", *arguments], capture_output=True, text=True, timeout=60, check=False)
        assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture
def prometheus(watched: Watched, tmp_path: Path) -> Iterator[Callable[[str], Any]]:
    """Run a real Prometheus against the service, with the shipped rules; gives a function that asks its API."""
    program = find_program("prometheus")
    assert watched.service.web.metrics_url is not None
    config = yaml.safe_load((ALERTS.parent / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    config["rule_files"] = [str(ALERTS)]
    (job,) = config["scrape_configs"]
    job["static_configs"] = [{"targets": [watched.service.web.metrics_url.split("/")[2]]}]
    (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        *(program, f"--config.file={tmp_path / 'prometheus.yml'}", f"--storage.tsdb.path={tmp_path / 'tsdb'}"),
        *(f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"),
    ]
    with (tmp_path / "prometheus.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return json.loads(answer.read())["data"]

    def is_ready() -> bool:
        assert process.poll() is None, (tmp_path / "prometheus.log").read_text()
        try:
            ask("/api/v1/status/buildinfo")
        except OSError:
            return False
        return True

    try:
        wait_until(is_ready)
        yield ask
    finally:
        process.terminate()
        process.wait(30)


def test_prometheus_reads_what_the_service_counted(
    prometheus: Callable[[str], Any], watched: Watched, client: Client
) -> None:
    client.embed([f"read by Prometheus, number {number}" for number in range(7)], durable=True)
    client.predict(["read by Prometheus, number 0"], heads=["topic"])

    def query(expression: str) -> list[Any]:
        found: list[Any] = prometheus(f"/api/v1/query?query={urllib.parse.quote(expression)}")["result"]
        return found

    def value(expression: str) -> float:
        (sample,) = query(expression)
        return float(sample["value"][1])

    own = watched.scrape()["embedder_ledger_encodes_total", ()]
    wait_until(lambda: bool(query("embedder_ledger_encodes_total == " + str(own))))
    assert value("embedder_serving") == 1
    assert value('embedder_items_total{source="computed"}') >= 7
    assert value("embedder_info") == 1

    # Every query of the dashboards and alerts is one that Prometheus can work out.
    for expression in _dashboard_queries() + _alert_queries():
        query(expression.replace("$instance", ".*").replace("$__rate_interval", "5m"))
    (group,) = prometheus("/api/v1/rules")["groups"]
    assert {rule["health"] for rule in group["rules"]} <= {"ok", "unknown"}
    assert not [rule for rule in group["rules"] if rule.get("lastError")]
