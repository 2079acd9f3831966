"""A shard: a range of rows that is done or not done as one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Shard:
    """A range of rows of one file, or a run of files that are a row each. Plain numbers: it travels to any process.

    Attributes:
        number: its place in the manifest, from 0.
        row_offset: rows of all shards before it.
        rows: how many rows it has.
        source: place of its file, or of its first one, in the manifest's table of sources.
        sources: how many files it spans: 1, or as many as it has rows.
        start: where it begins in its file, in the unit of the file's format: a row, or a byte.
        end: where it ends, exclusive.
        first_row: rows of its file before it.
    """

    number: int
    row_offset: int
    rows: int
    source: int
    sources: int
    start: int
    end: int
    first_row: int
