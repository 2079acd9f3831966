"""embedder-report against a real service: a table for people, JSON for programs, and clear errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from embedder_client import Client

from .conftest import Running


def _run(*arguments: str) -> tuple[int, str, str]:
    command = [str(Path(sys.executable).with_name("embedder-report")), *arguments]
    environment = os.environ | {"COLUMNS": "80", "NO_COLOR": "1"}
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    return ended.returncode, ended.stdout, ended.stderr


def test_table_fits_a_terminal_and_says_what_is_estimated(running: Running, client: Client) -> None:
    name = "a-task-with-a-rather-long-name"
    client.embed(["asked for the report"], task=name)
    code, shown, _ = _run("--target", running.target, "--task", name)  # others' figures would fold the name elsewhere
    assert code == 0
    assert max(map(len, shown.splitlines())) <= 80
    assert "a-task-with-a" in shown
    assert "~: estimated" in shown


def test_json_gives_every_figure_with_its_basis(running: Running, client: Client) -> None:
    client.embed(["asked for the JSON"], task="json-task")
    code, shown, _ = _run("--target", running.target, "--format", "json", "--task", "json-task")
    report = json.loads(shown)
    assert code == 0
    assert [row["group"] for row in report["rows"]] == ["json-task"]
    assert report["total"]["contents_asked"] == 1
    assert report["total"]["device_time"]["basis"] == "measured"
    assert report["total"]["device_time_saved"]["basis"] == "estimated"
    assert report["assumptions"]


@pytest.mark.parametrize("by", ["task", "client", "space", "lane", "none"])
def test_every_grouping_is_served(running: Running, by: str) -> None:
    code, shown, _ = _run("--target", running.target, "--by", by, "--format", "json")
    assert code == 0
    assert bool(json.loads(shown)["rows"]) == (by != "none")


def test_service_out_of_reach_is_a_clear_error() -> None:
    code, _, complaint = _run("--target", "127.0.0.1:1")
    assert code == 1
    assert "127.0.0.1:1" in complaint
    assert "Traceback" not in complaint
