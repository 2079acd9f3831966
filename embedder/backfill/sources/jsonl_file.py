"""JSON lines: cut at bytes where lines begin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embedder.backfill.sources.row_file import Extent, RowBlock, columns_of

_PIECE_BYTES = 1 << 20
_SHOWN_LINES = 20


class JsonLines:
    """A file with a JSON object on each line; every line is a row."""

    def __init__(self, path: Path) -> None:
        """Open a file."""
        self._file = path.open("rb")

    def column_names(self) -> list[str]:
        """Return the names in the first lines."""
        self._file.seek(0)
        names: dict[str, None] = {}
        for _ in range(_SHOWN_LINES):
            row, _ = _parsed(self._file.readline())
            names |= dict.fromkeys(row)
        return list(names)

    def extents(self, *, shard_rows: int) -> Iterator[Extent]:
        """Count lines; cut after each `shard_rows`."""
        self._file.seek(0)
        position = start = rows = first_row = 0
        last = b"\n"
        while piece := self._file.read(_PIECE_BYTES):
            last = piece[-1:]
            offset = 0
            while True:
                lines = piece.count(b"\n", offset)
                if rows + lines < shard_rows:
                    rows += lines
                    break
                end = _after_lines(piece, offset, shard_rows - rows)
                yield Extent(start, position + end, first_row, shard_rows)
                first_row += shard_rows
                start, rows, offset = position + end, 0, end
            position += len(piece)
        if last != b"\n":
            rows += 1
        if rows:
            yield Extent(start, position, first_row, rows)

    def read(self, extent: Extent, columns: Sequence[str]) -> RowBlock:
        """Parse the lines of a range."""
        self._file.seek(extent.start)
        lines = self._file.read(extent.end - extent.start).split(b"\n")[: extent.rows]
        rows: list[dict[str, Any]] = []
        failures: dict[int, str] = {}
        for number, line in enumerate(lines):
            row, failure = _parsed(line)
            rows.append(row)
            if failure:
                failures[number] = failure
        return RowBlock(len(rows), columns_of(rows, columns), failures)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _after_lines(piece: bytes, offset: int, lines: int) -> int:
    """Return the place after so many line ends; there are as many."""
    while lines:
        offset = piece.index(b"\n", offset) + 1
        lines -= 1
    return offset


def _parsed(line: bytes) -> tuple[dict[str, Any], str]:
    if not line.strip():
        return {}, "the line is empty"
    try:
        row = json.loads(line.decode())  # given bytes, it would guess at their encoding
    except ValueError as error:  # of JSON, and of UTF-8
        return {}, f"the line is no JSON: {error}"
    except RecursionError:
        return {}, "the line's JSON is nested too deep"
    if not isinstance(row, dict):
        return {}, f"the line is {type(row).__name__}, not a JSON object"
    return row, ""
