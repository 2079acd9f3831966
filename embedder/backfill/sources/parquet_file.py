"""Parquet: cut by rows, read a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embedder.backfill.sources.row_file import Extent, RowBlock, value_at
from embedder.errors import InvalidRequest

_BATCH_ROWS = 1_024


class ParquetRows:
    """A Parquet file.

    A reader that goes from one extent to the next reads on; one that jumps starts at the row group that it jumps into.
    """

    def __init__(self, path: Path) -> None:
        """Open a file; raises InvalidRequest where it is no Parquet."""
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidRequest(f"{path} can't be read as Parquet: {error}") from error
        meta = self._file.metadata
        self._group_starts = [0]
        for group in range(meta.num_row_groups):
            self._group_starts.append(self._group_starts[-1] + meta.row_group(group).num_rows)
        self._batches: Iterator[Any] | None = None
        self._rest: Any = None
        self._next_row = -1
        self._columns: tuple[str, ...] = ()

    def column_names(self) -> list[str]:
        """Return the columns by the schema."""
        return list(self._file.schema_arrow.names)

    def extents(self, *, shard_rows: int) -> Iterator[Extent]:
        """Cut the rows; no extent crosses a row group, so that another machine reads no more than its own."""
        for start, end in zip(self._group_starts, self._group_starts[1:], strict=False):
            for first in range(start, end, shard_rows):
                last = min(first + shard_rows, end)
                yield Extent(first, last, first, last - first)

    def read(self, extent: Extent, columns: Sequence[str]) -> RowBlock:
        """Read some columns of a range."""
        known = set(self.column_names())
        stored = tuple(dict.fromkeys(name if name in known else name.partition(".")[0] for name in columns))
        if absent := [name for name in stored if name not in known]:
            raise InvalidRequest(f"there is no column {absent[0]!r}; there are {', '.join(sorted(known))}")
        if self._next_row != extent.start or self._columns != stored:
            self._jump(extent.start, stored)
        table = pa.Table.from_batches(list(self._take(extent.rows)), schema=self._schema)
        self._next_row = extent.end
        found: dict[str, list[Any]] = {}
        for name in columns:
            if name in known:
                found[name] = table[name].to_pylist()
            else:
                head, _, rest = name.partition(".")
                found[name] = [value_at(value, rest) for value in table[head].to_pylist()]
        return RowBlock(extent.rows, found)

    def close(self) -> None:
        """Close the file."""
        self._batches = self._rest = None
        self._file.close()

    def _jump(self, row: int, columns: tuple[str, ...]) -> None:
        group = next(number for number in range(len(self._group_starts) - 1) if row < self._group_starts[number + 1])
        groups = list(range(group, len(self._group_starts) - 1))
        self._schema = pa.schema([self._file.schema_arrow.field(name) for name in columns])
        self._columns = columns
        self._batches = self._file.iter_batches(batch_size=_BATCH_ROWS, row_groups=groups, columns=list(columns))
        self._rest = None
        for _ in self._take(row - self._group_starts[group]):
            pass

    def _take(self, rows: int) -> Iterator[Any]:
        """Yield record batches of so many rows in all, going on where the last call ended."""
        assert self._batches is not None
        while rows:
            batch = self._rest if self._rest is not None else next(self._batches)
            part = batch.slice(0, rows)
            self._rest = batch.slice(rows) if batch.num_rows > rows else None
            rows -= part.num_rows
            # In the order of the schema asked for, which may not be the file's.
            yield pa.record_batch([part.column(name) for name in self._schema.names], schema=self._schema)
