"""The savings report through a real service: tenants and heads, both roads, every format, and what would be saved."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from embedder.cli.report import app
from embedder_client import Client, ClientSettings, errors

from .conftest import Running

_COUNTERS = ("contents_asked", "cache_hits", "shared_cache_hits", "in_flight_hits", "encodes", "failures")


def _run(*arguments: str) -> str:
    """Run the command in a process of its own: the service of these tests logs to this one's standard output."""
    command = [str(Path(sys.executable).with_name("embedder-report")), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def _as_tenant(running: Running, tenant: str) -> Client:
    return Client(running.target, settings=ClientSettings(client_name="tests", tenant=tenant, timeout_s=60))


@pytest.mark.parametrize("by", ["task", "client", "tenant", "head", "space", "lane"])
def test_groups_of_every_kind_add_up_to_the_total(running: Running, by: str) -> None:
    for tenant in ("news", "shop"):
        with _as_tenant(running, tenant) as client:
            client.embed([f"asked by {tenant}", "asked by both", ""], task=f"task-of-{tenant}")
    with _as_tenant(running, "") as client:
        report = client.savings(group_by=by)
    for name in _COUNTERS:
        assert sum(getattr(row, name) for row in report.rows) == getattr(report.total, name)


def test_tenant_is_counted_by_the_metadata_and_can_be_asked_for(running: Running) -> None:
    with _as_tenant(running, "only-once") as client:
        client.embed(["a text of this tenant", "another of its texts"], task="counting", durable=True)
        client.embed(["a text of this tenant"], task="counting")
        total = client.savings(tenant="only-once").total
    assert (total.contents_asked, total.encodes, total.cache_hits) == (3, 2, 1)
    with pytest.raises(errors.InvalidRequest):
        _as_tenant(running, "grün")


def test_call_tells_the_energy_of_its_device_time(running: Running) -> None:
    with _as_tenant(running, "energy") as client:
        computed, held = (client.embed(["a text whose energy is told"], durable=True).cost for _ in range(2))
    assert computed.energy is not None
    assert computed.device_time is not None
    # Above idle, a metered power or the 4 W of the savings file.
    watts = running.runtime.call_energy.of(1.0)
    assert watts is not None
    assert computed.energy.value == pytest.approx(watts.value * computed.device_time.value, rel=0.5)
    assert computed.energy.value > 0
    assert held.energy is not None
    assert held.energy.value == 0.0


def test_report_gives_both_roads_and_formula_agrees_with_ledger(running: Running) -> None:
    with _as_tenant(running, "roads") as client:
        texts = [f"a text for both roads, number {number}" for number in range(8)]
        for task in ("first", "second", "third"):
            client.embed(texts, task=task, durable=True)
        report = client.savings(tenant="roads")
    assert report.formula is not None
    assert report.formula.contents == 24
    assert report.formula.hit_rate == pytest.approx(2 / 3)
    assert report.formula.difference < 0.001
    assert report.total.alternative.time is not None
    assert report.total.shared.time is not None
    assert report.total.alternative.time.value > report.total.shared.time.value
    assert {term.head for term in report.formula.heads} == {"first", "second", "third"}
    assert report.uptime is not None
    assert report.total.device_time is not None
    assert "CPU time" in report.total.device_time.source


def test_every_format_tells_the_same_counts(running: Running, tmp_path: Path) -> None:
    with _as_tenant(running, "formats") as client:
        client.embed(["a text for the formats"], task="format-task")
    chosen = ("--target", running.target, "--tenant", "formats")
    told = json.loads(_run(*chosen, "--format", "json"))
    lines = list(csv.DictReader(io.StringIO(_run(*chosen, "--format", "csv"))))
    _run(*chosen, "--format", "parquet", "--output-file", str(tmp_path / "savings.parquet"))
    kept = pq.read_table(tmp_path / "savings.parquet").to_pylist()
    assert [row["group"] for row in kept] == [line["group"] for line in lines] == ["format-task", "(total)"]
    assert [int(line["contents_asked"]) for line in lines] == [1, 1]
    assert kept[-1]["contents_asked"] == told["total"]["contents_asked"] == 1
    assert lines[0]["device_time_basis"] == "measured"
    explained = _run(*chosen, "--explain")
    assert "contents x [(1 - h) x C_encode + C_lookup]" in explained
    assert "Break-even" in explained


def test_parquet_without_a_file_is_refused(running: Running) -> None:
    ended = CliRunner().invoke(app, ["--target", running.target, "--format", "parquet"])
    assert ended.exit_code == 2
    assert "--output-file" in ended.output


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_trace_is_replayed_before_anything_is_deployed(tmp_path: Path, ending: str) -> None:
    rows = [{"time": number, "content": f"c{number % 5}", "task": f"t{number % 2}"} for number in range(100)]
    path = tmp_path / f"trace.{ending}"
    if ending == "csv":
        path.write_text(
            "time,content,task\n" + "".join(f"{row['time']},{row['content']},{row['task']}\n" for row in rows)
        )
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    costs = ("--encode-ms", "10", "--special-ms", "2", "--lookup-ms", "0", "--head-ms", "0")
    found = json.loads(_run("replay", str(path), *costs, "--json"))
    assert (found["requests"], found["contents"], found["encodes"]) == (100, 5, 5)
    assert found["saved_s"] == pytest.approx(100 * 0.002 - 5 * 0.010)
    small = json.loads(_run("replay", str(path), *costs, "--cache-bytes", "1 KiB", "--json"))
    assert small["encodes"] == 100


def test_trace_without_its_columns_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "trace.csv").write_text("when,what\n1,2\n")
    ended = CliRunner().invoke(app, ["replay", str(tmp_path / "trace.csv"), "--encode-ms", "1"])
    assert ended.exit_code == 1
    assert "no column time, content, task" in ended.output


def test_calibrate_really_runs_the_model_and_writes_its_part_of_the_savings_file() -> None:
    written = _run("calibrate", "default", "--head", "topic")
    assert written.startswith("[heads.")
    seconds = float(written.partition("seconds_per_content = ")[2].splitlines()[0])
    assert 0 < seconds < 10
