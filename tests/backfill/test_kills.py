"""A backfill that is killed loses nothing; `tests/faults/kill_backfill.py` does it fifty times."""

from __future__ import annotations

from pathlib import Path

from tests.faults.kill_backfill import run


def test_a_killed_job_goes_on_and_repeats_at_most_one_shard(tmp_path: Path) -> None:
    found = run(kills=3, rows=1_500, folder=tmp_path, seed=7)
    assert found.kills == 3
    assert (found.missing, found.wrong) == (0, 0)
    assert found.most_again_by_one_kill <= found.shard_rows
