"""CSV and TSV with a header: cut at bytes where records begin, which is not every line, since quoted cells may hold line ends."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from embedder.backfill.sources.row_file import Extent, RowBlock
from embedder.errors import InvalidRequest

_MAX_CELL_BYTES = 1 << 28


class CsvRows:
    """A file of separated values in UTF-8, by RFC 4180: quotes inside quoted cells are doubled."""

    def __init__(self, path: Path, *, delimiter: str) -> None:
        """Open a file and read its header.

        Raises:
            InvalidRequest: there is no header, or a name stands in it twice.
        """
        self._delimiter = delimiter
        self._file = path.open("rb")
        header = _record(self._file)
        try:
            names = next(csv.reader([header.decode("utf-8-sig")], delimiter=delimiter), [])
        except (UnicodeDecodeError, csv.Error) as error:
            self._file.close()
            raise InvalidRequest(f"the header of {path} can't be read: {error}") from error
        if not names or len(set(names)) < len(names):
            self._file.close()
            raise InvalidRequest(f"the header of {path} must name each column once; it is {names}")
        self._places = {name: place for place, name in enumerate(names)}
        self._begin = len(header)

    def column_names(self) -> list[str]:
        """Return the header."""
        return list(self._places)

    def extents(self, *, shard_rows: int) -> Iterator[Extent]:
        """Go through the records; cut after each `shard_rows`."""
        self._file.seek(self._begin)
        start = position = self._begin
        rows = first_row = 0
        while record := _record(self._file):
            position += len(record)
            rows += 1
            if rows == shard_rows:
                yield Extent(start, position, first_row, rows)
                start, first_row, rows = position, first_row + rows, 0
        if rows:
            yield Extent(start, position, first_row, rows)

    def read(self, extent: Extent, columns: Sequence[str]) -> RowBlock:
        """Parse the records of a range."""
        if absent := [name for name in columns if name not in self._places]:
            raise InvalidRequest(f"there is no column {absent[0]!r}; there are {', '.join(self._places)}")
        self._file.seek(extent.start)
        piece = io.BytesIO(self._file.read(extent.end - extent.start))
        found: dict[str, list[Any]] = {name: [] for name in columns}
        failures: dict[int, str] = {}
        rows = 0
        while record := _record(piece):
            cells, failure = self._cells(record)
            if failure:
                failures[rows] = failure
            for name in columns:
                found[name].append(cells[self._places[name]] if cells else None)
            rows += 1
        return RowBlock(rows, found, failures)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cells(self, record: bytes) -> tuple[list[str], str]:
        csv.field_size_limit(_MAX_CELL_BYTES)
        if not record.strip():
            return [], "the line is empty"
        try:
            cells = next(csv.reader(io.StringIO(record.decode(), newline=""), delimiter=self._delimiter, strict=True))
        except UnicodeDecodeError as error:
            return [], f"the row is not UTF-8: {error}"
        except csv.Error as error:
            return [], f"the row can't be read: {error}"
        if len(cells) != len(self._places):
            return [], f"the row has {len(cells)} cells, and the header {len(self._places)}"
        return cells, ""


def _record(file: BinaryIO) -> bytes:
    """Read one record: lines until their quotes are even; empty at the file's end."""
    record = line = file.readline()
    quotes = line.count(b'"')
    while quotes % 2 and (line := file.readline()):
        record += line
        quotes += line.count(b'"')
    return record
