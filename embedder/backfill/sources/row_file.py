"""The interface of a file of rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Extent:
    """A range of a file's rows.

    Attributes:
        start: where it begins, in the unit of the file's format: a row, or a byte.
        end: where it ends, exclusive.
        first_row: rows of the file before it.
        rows: how many rows it has.
    """

    start: int
    end: int
    first_row: int
    rows: int


@dataclass(slots=True)
class RowBlock:
    """The rows of one extent, column by column.

    Attributes:
        rows: how many there are.
        columns: (rows) values of each column that was asked for; None where a row has none.
        failures: rows that could not be read, with the reason in words.
    """

    rows: int
    columns: dict[str, list[Any]]
    failures: dict[int, str] = field(default_factory=dict)


class RowFile(Protocol):
    """One open file of rows; used by one thread."""

    def column_names(self) -> list[str]:
        """Return the columns, as far as the file says or its first rows show."""
        ...

    def extents(self, *, shard_rows: int) -> Iterator[Extent]:
        """Cut the file into ranges of at most `shard_rows` rows, reading it once and holding none of it."""
        ...

    def read(self, extent: Extent, columns: Sequence[str]) -> RowBlock:
        """Read some columns of a range; a row that can't be read fails alone."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


def columns_of(rows: Sequence[Any], columns: Sequence[str]) -> dict[str, list[Any]]:
    """Turn rows, each an object, into columns; a name with dots leads into nested objects where no column has that very name."""
    return {name: [value_at(row, name) for row in rows] for name in columns}


def value_at(row: Any, name: str) -> Any:
    """Return a row's value by its column's name; None where there is none."""
    if not isinstance(row, dict):
        return None
    if name in row or "." not in name:
        return row.get(name)
    head, _, rest = name.partition(".")
    return value_at(row.get(head), rest)
