"""The savings report for programs: JSON with every figure's basis, and rows as CSV or Parquet."""

from __future__ import annotations

import csv
import json
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

from embedder_client import Figure, RoadCost, SavingsReport, SavingsRow

_TOTAL = "(total)"


def as_json(found: SavingsReport) -> str:
    """Return a report as JSON; times are ISO 8601."""
    return json.dumps(asdict(found), indent=2, default=_time) + "\n"


def write_csv(found: SavingsReport, stream: TextIO) -> None:
    """Write one line a row and the total last, each figure with its basis beside it."""
    lines = _lines(found)
    writer = csv.DictWriter(stream, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def write_parquet(found: SavingsReport, path: Path) -> None:
    """Write the same lines as a Parquet file."""
    pq.write_table(pa.Table.from_pylist(_lines(found)), path)


def _lines(found: SavingsReport) -> list[dict[str, Any]]:
    window = {"start": found.start, "end": found.end}
    return [{"group": name, **window, **_values(row)} for name, row in _named(found)]


def _named(found: SavingsReport) -> list[tuple[str, SavingsRow]]:
    return [*[(row.group, row) for row in found.rows], (_TOTAL, found.total)]


def _values(row: SavingsRow) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        if field.name == "group":
            continue
        if isinstance(value, RoadCost):
            for part in fields(value):
                values |= _columns(f"{field.name}_{part.name}", getattr(value, part.name))
        elif isinstance(value, Figure) or value is None:
            values |= _columns(field.name, value)
        else:
            values[field.name] = value
    return values


def _columns(name: str, figure: Figure | None) -> dict[str, Any]:
    """Return a figure's value and basis; a unit belongs to its column, and stands in the docs."""
    return {name: figure and figure.value, f"{name}_basis": figure and figure.basis.value}


def _time(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"no JSON for {type(value).__name__}")
