"""Three daemons and a Valkey cluster of three nodes behind one locality client, with deaths and restarts under load."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.replicas import run


@pytest.mark.slow
def test_a_death_of_each_and_rolling_restarts_fail_no_call(tmp_path: Path) -> None:
    counts = run(restarts=4, folder=tmp_path)
    assert counts["failed_calls"] == 0, counts["errors"]
    assert counts["wrong_calls"] == 0
    for when in ("before_kill", "without_them", "after_return", "at_the_end"):
        assert counts[f"hit_rate_{when}"] >= 0.99
