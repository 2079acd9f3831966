"""WebDataset tars: members that share a name up to its first dot are one row, and what follows the dot is the column."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from embedder.backfill.sources.row_file import Extent, RowBlock, columns_of
from embedder.errors import InvalidRequest

KEY = "__key__"
"""The column of a sample's name."""

_TEXTS = ("txt", "text", "cls", "id")


class TarSamples:
    """An uncompressed tar of samples. Members are read by their bytes alone: no name of one ever becomes a path."""

    def __init__(self, path: Path) -> None:
        """Open a file."""
        self._path = path
        self._file = path.open("rb")

    def column_names(self) -> list[str]:
        """Return the columns of the first sample."""
        for _, members in self._samples(0, None):
            return [KEY, *(_column(member.name) for member in members)]
        return [KEY]

    def extents(self, *, shard_rows: int) -> Iterator[Extent]:
        """Go through the headers; cut after each `shard_rows` samples."""
        start = first_row = rows = 0
        end = 0
        for offset, members in self._samples(0, None):
            if rows == shard_rows:
                yield Extent(start, offset, first_row, rows)
                start, first_row, rows = offset, first_row + rows, 0
            rows += 1
            end = _end_of(members[-1])
        if rows:
            yield Extent(start, end, first_row, rows)

    def read(self, extent: Extent, columns: Sequence[str]) -> RowBlock:
        """Read some members of a range of samples."""
        heads = {column.partition(".")[0] for column in columns} | set(columns)
        rows: list[dict[str, Any]] = []
        failures: dict[int, str] = {}
        for _, members in self._samples(extent.start, extent.end):
            row: dict[str, Any] = {KEY: _key(members[0].name)}
            for member in members:
                column = _column(member.name)
                if column in heads:
                    try:
                        row[column] = _value(column, self._bytes_of(member))
                    except ValueError as error:
                        failures[len(rows)] = f"{member.name} can't be read: {error}"
            rows.append(row)
        return RowBlock(len(rows), columns_of(rows, columns), failures)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _samples(self, start: int, end: int | None) -> Iterator[tuple[int, list[tarfile.TarInfo]]]:
        """Yield where each sample begins, and its members."""
        self._file.seek(start)
        offset, members = start, list[tarfile.TarInfo]()
        try:
            with tarfile.open(fileobj=self._file, mode="r:") as archive:
                while (member := archive.next()) is not None and (end is None or member.offset < end):
                    archive.members = []  # type: ignore[attr-defined]  # it keeps every header, and memory grows with the file
                    if not member.isfile():
                        continue
                    if members and _key(member.name) != _key(members[0].name):
                        yield offset, members
                        members = []
                    if not members:
                        offset = member.offset
                    members.append(member)
        except tarfile.TarError as error:
            raise InvalidRequest(f"{self._path} can't be read as an uncompressed tar: {error}") from error
        if members:
            yield offset, members

    def _bytes_of(self, member: tarfile.TarInfo) -> bytes:
        self._file.seek(member.offset_data)
        found = self._file.read(member.size)
        if len(found) < member.size:
            raise ValueError("the file ends within it")
        return found


def _key(name: str) -> str:
    folder, slash, base = name.rpartition("/")
    return folder + slash + base.partition(".")[0]


def _column(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


def _end_of(member: tarfile.TarInfo) -> int:
    blocks = -(-member.size // tarfile.BLOCKSIZE)
    return member.offset_data + blocks * tarfile.BLOCKSIZE


def _value(column: str, found: bytes) -> Any:
    """Return what a member holds: text and JSON as such, by the name of the column, and anything else as bytes."""
    ending = column.rpartition(".")[2]
    if ending in _TEXTS:
        return found.decode()
    return json.loads(found) if ending == "json" else found
