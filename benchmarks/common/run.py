"""One benchmark's run: its options, its table, its JSON line, and the result that is kept."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from benchmarks.common.hardware import describe_hardware, one_line
from benchmarks.common.overview import PAGE, RESULTS, overview

_MOST_COLUMNS, _FEW_ROWS = 8, 3


@dataclass(frozen=True)
class Result:
    """What a benchmark found.

    Attributes:
        columns: the table's header; the first names the contender.
        rows: one for each contender: ours, peers, floor.
        keys: the figures that the benchmark is judged by, by name; None for what was not run.
        notes: what a reader must know to believe the figures, in words.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    keys: Mapping[str, float | None]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of a benchmark's result: rows under its columns, keys and notes; see `Result`."""

    rows: Sequence[Sequence[str]]
    keys: Mapping[str, float | None]
    notes: Sequence[str] = ()


def main(name: str, description: str, measure: Callable[[bool, Console], Result]) -> None:
    """Run one benchmark from the command line.

    Args:
        name: the benchmark's, as in `python -m benchmarks.NAME`.
        description: what it measures, against what.
        measure: runs it; takes whether `--full` was asked, and a console for progress (standard error).
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument("--json", action="store_true", help="end with one line, a JSON object of the keys")
    parser.add_argument("--full", action="store_true", help="measure more, for longer than 3 minutes")
    parser.add_argument("--keep", action="store_true", help="keep the result in benchmarks/results/")
    arguments = parser.parse_args()
    # Ends as an error does, so that servers are stopped; the default would leave them running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    hardware = describe_hardware()
    result = measure(arguments.full, Console(stderr=True))
    console = Console()
    console.print(_table(name, result))
    today = datetime.now(UTC).date().isoformat()
    for line in (f"Measured on {today}: {one_line(hardware)}", *result.notes):
        console.print(line, style="dim", highlight=False)
    if arguments.keep:
        _keep(name, today, hardware, result)
    if arguments.json:
        console.file.write(json.dumps(dict(result.keys)) + "\n")


def _table(name: str, result: Result) -> Table:
    """Lay the rows out; few rows of many columns stand upright, since no terminal is wide enough."""
    columns, rows = result.columns, result.rows
    if len(columns) > _MOST_COLUMNS and len(rows) <= _FEW_ROWS:
        columns, *rows = zip(columns, *rows, strict=True)
    table = Table(*columns, title=f"benchmarks.{name}", title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _keep(name: str, today: str, hardware: dict[str, str | int | list[str] | float], result: Result) -> None:
    RESULTS.mkdir(exist_ok=True)
    kept = {
        "benchmark": name,
        "date": today,
        "hardware": hardware,
        "keys": dict(result.keys),
        "columns": list(result.columns),
        "rows": [list(row) for row in result.rows],
        "notes": list(result.notes),
    }
    (RESULTS / f"{name}-{today}.json").write_text(json.dumps(kept, indent=1) + "\n")
    PAGE.write_text(overview())
