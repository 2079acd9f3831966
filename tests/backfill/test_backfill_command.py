"""The command, as people run it, with the embedded default space."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from embedder.cli.backfill import INCOMPLETE, TOO_MANY_REJECTS, WRONG
from embedder.cli.cache import app as cache_app


def command(data_dir: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "embedder.cli.backfill", *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "EMBEDDER_DATA_DIR": str(data_dir), "EMBEDDER_CACHE_LIMIT_BYTES": "64 MiB"},
    )


def test_a_job_from_its_plan_to_its_verification(tmp_path: Path) -> None:
    data, rows = tmp_path / "data", tmp_path / "rows.csv"
    rows.write_text('key,words\na,"One sentence, with a comma."\nb,Another one.\nc,\n')
    given = (str(rows), "--column", "words", "--id", "key", "--json")
    planned = command(data, "plan", *given)
    assert planned.returncode == 0, planned.stderr
    assert json.loads(planned.stdout)["rows"] == 3

    first = command(data, "run", *given)
    assert first.returncode == 0, first.stderr
    said = json.loads(first.stdout)
    assert (said["state"], said["computed"], said["rejected"]) == ("finished", 2, 1)
    assert '"id": "c"' in Path(said["rejects_file"]).read_text()

    second = command(data, "run", *given)
    assert json.loads(second.stdout)["was_done"]
    assert "--again" not in second.stdout

    status = json.loads(command(data, "status", "--json").stdout)
    assert (status["rows_done"], status["shards_done"], status["runs"]) == (3, 1, 1)
    assert status["spent_s"]["basis"] == "measured"
    assert command(data, "verify").returncode == 0

    erased = CliRunner().invoke(cache_app, ["erase", "--cache-dir", str(data / "cache"), "--text", "Another one."])
    assert erased.exit_code == 0, erased.output
    verified = command(data, "verify", "--json")
    assert verified.returncode == INCOMPLETE
    assert json.loads(verified.stdout)["missing"] == 1


def test_standard_input_is_kept_so_that_the_job_can_go_on(tmp_path: Path) -> None:
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("One more sentence.", "And another."))
    first = command(tmp_path, "run", "-", "--json", stdin=lines)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["computed"] == 2
    assert json.loads(command(tmp_path, "run", "-", "--json", stdin=lines).stdout)["was_done"]
    assert "stdin-" in command(tmp_path, "list").stdout


def test_mistakes_are_one_line_and_a_status(tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": null}\n')
    for arguments, status, words in (
        (("run", str(tmp_path / "nowhere")), WRONG, "no file and no folder"),
        (("run",), WRONG, "name the files and folders"),
        (("status",), WRONG, "there is no job"),
        (("run", str(rows), "--executor", "cloud"), WRONG, "there are local"),
        (("run", str(rows), "--max-rejects", "0"), TOO_MANY_REJECTS, "max_rejects=0"),
        (("run", str(rows), "--npy", "file.txt"), WRONG, ".npy"),
    ):
        ended = command(tmp_path / "data", *arguments)
        assert ended.returncode == status, ended.stderr
        assert words in ended.stderr
        assert "Traceback" not in ended.stderr
