"""A sample of the hostile files that `benchmarks.hostile` sends by the thousand."""

from __future__ import annotations

from itertools import islice

import psutil

from tests.faults.hostile_files import hostile_files, run


def test_hostile_files_cost_their_sender_an_error_and_nobody_else_anything(start_daemon) -> None:
    files = list(islice(hostile_files(seed=1), 68))  # two of each kind
    before = {child.pid for child in psutil.Process().children()}
    with start_daemon() as address:
        daemon = next(child for child in psutil.Process().children() if child.pid not in before)
        found = run(address, daemon, files)
    assert found.unclear == []
    assert found.wrong_vectors == 0
    assert found.outcomes.total() == len(files)
    assert found.outcomes["LIMIT_EXCEEDED"] >= 4
    assert found.peak_bytes <= found.bound_bytes
