"""Plans a job: finds out how rows become contents, reads the sources once, and writes the manifest."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from embedder.backfill.job import ContentColumns, FieldColumn, Job
from embedder.backfill.manifest import Manifest, Planned, Source, write_manifest
from embedder.backfill.shard import Shard
from embedder.backfill.sources.formats import medium_of, open_rows
from embedder.backfill.sources.listing import Listed, list_sources
from embedder.backfill.sources.row_file import RowFile
from embedder.errors import InvalidRequest
from embedder_client.content_hash import Modality

_SHARD_ROWS = {Modality.TEXT: 2_048, Modality.IMAGE: 128, Modality.POST: 512, Modality.VIDEO: 8}
_USUAL_TEXT_COLUMN = "text"
_SHOWN_ROWS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedColumns:
    """What the user said of the columns; what was left out is found in the first file of rows.

    Attributes:
        column: the column of a single medium.
        modality: the medium; None goes by the values, and takes every kind of file that is a content itself.
        fields: a post's fields as `NAME=COLUMN` or `NAME=COLUMN:MEDIUM`.
        id_column: the column of ids.
    """

    column: str = ""
    modality: Modality | None = None
    fields: tuple[str, ...] = ()
    id_column: str = ""


def plan(
    folder: Path, job: Job, asked: AskedColumns, *, on_progress: Callable[[int], None] = lambda size: None
) -> Manifest:
    """Write a job's manifest.

    Args:
        folder: where it goes; made, and removed again where the job can't be planned.
        job: what is asked; its columns are found here.
        asked: what is said of the columns.
        on_progress: is told of the bytes of each file that was gone through.
    Raises:
        InvalidRequest: a source is not there or not of its format, or the columns are not.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        left_out: list[int] = [0]

        def leave_out(path: Path) -> None:
            left_out[0] += 1

        def listed() -> Iterator[Listed]:
            only = asked.modality if asked.modality is not Modality.POST and not asked.fields else None
            return list_sources(job.sources, only=only, on_left_out=leave_out)

        first = next((one for one in listed() if one.has_rows), None)
        columns = None if first is None else resolve_columns(first, asked)
        if first is None and (asked.column or asked.fields or asked.id_column):
            raise InvalidRequest("columns were named, and no source is a file of rows (Parquet, JSONL, CSV, TSV, tar)")
        left_out[0] = 0
        planner = _Planner(replace(job, columns=columns), on_progress)
        planned = list_of_planned(planner, listed())
        write_manifest(folder, planner.job, planned, left_out=lambda: left_out[0])
        return Manifest(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def list_of_planned(planner: _Planner, listed: Iterator[Listed]) -> Iterator[Planned]:
    """Cut files into shards, one by one."""
    for one in listed:
        yield from planner.add(one)
    yield from planner.finish()


def resolve_columns(listed: Listed, asked: AskedColumns) -> ContentColumns:
    """Find out how rows become contents, from what was said and from the first rows of a file."""
    rows = open_rows(Path(listed.path), listed.format)
    try:
        names = rows.column_names()
        folder = Path(listed.path).parent
        if asked.fields:
            if asked.column:
                raise InvalidRequest("--column is for one medium and --post for several: give one of the two")
            fields = tuple(_field(rows, given, folder) for given in asked.fields)
            if len({field.name for field in fields}) < len(fields):
                raise InvalidRequest("two fields of the post have the same name")
            found = ContentColumns(modality=Modality.POST, fields=fields, id_column=asked.id_column)
        else:
            if asked.modality is Modality.POST:
                raise InvalidRequest("a post needs its fields: --post NAME=COLUMN, once for each")
            column = asked.column or (_USUAL_TEXT_COLUMN if _USUAL_TEXT_COLUMN in names else "")
            if not column:
                raise InvalidRequest(f"name the column with --column; {listed.name} has {', '.join(names)}")
            modality = asked.modality or _modality_of(_first_value(rows, column), folder)
            found = ContentColumns(modality=modality, column=column, id_column=asked.id_column)
        check_columns(rows, found, listed.name)
        return found
    finally:
        rows.close()


def check_columns(rows: RowFile, columns: ContentColumns, name: str) -> None:
    """Refuse a file that lacks a column; raises InvalidRequest."""
    known = rows.column_names()
    for column in columns.names:
        if column not in known and column.partition(".")[0] not in known:
            raise InvalidRequest(f"{name} has no column {column!r}; it has {', '.join(known)}")


def _field(rows: RowFile, given: str, folder: Path) -> FieldColumn:
    name, _, column = given.partition("=")
    column, _, medium = column.partition(":")
    if not (name and column):
        raise InvalidRequest(
            f"--post {given!r}: NAME=COLUMN or NAME=COLUMN:MEDIUM is wanted, such as picture=image_path:image"
        )
    allowed = (Modality.TEXT, Modality.IMAGE, Modality.VIDEO)
    if medium and medium not in allowed:
        raise InvalidRequest(f"--post {given!r}: the medium is one of {', '.join(allowed)}")
    modality = Modality(medium) if medium else _modality_of(_first_value(rows, column), folder)
    return FieldColumn(name=name, column=column, modality=modality)


def _first_value(rows: RowFile, column: str) -> Any:
    """Return the first value that a column has in the first rows; None without one."""
    extent = next(rows.extents(shard_rows=_SHOWN_ROWS), None)
    if extent is None:
        return None
    return next((value for value in rows.read(extent, [column]).columns[column] if value not in (None, "")), None)


def _modality_of(value: Any, folder: Path) -> Modality:
    """Tell a medium by a value: bytes are an image, the path of a file goes by its ending, and anything else is a text."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return Modality.IMAGE
    if isinstance(value, str) and len(value) < 4_096 and "\n" not in value:
        medium = medium_of(value)
        if medium is not None and (value.startswith("file:") or (folder / value).is_file()):
            return medium
    return Modality.TEXT


class _Planner:
    """Numbers sources and shards."""

    def __init__(self, job: Job, on_progress: Callable[[int], None]) -> None:
        self.job = job
        self._on_progress = on_progress
        self._sources = self._shards = self._rows = 0
        self._run: list[Source] = []  # of files that are a row each

    def add(self, listed: Listed) -> Iterator[Planned]:
        if not listed.has_rows:
            source = Source(listed.path, listed.name, listed.format, listed.bytes, listed.mtime_ns, rows=1)
            if self._run and self._run[-1].format != source.format:
                yield from self.finish()
            self._run.append(source)
            self._on_progress(listed.bytes)
            if len(self._run) == self._shard_rows(Modality(source.format)):
                yield from self.finish()
            return
        yield from self.finish()
        columns = self.job.columns
        assert columns is not None
        rows = open_rows(Path(listed.path), listed.format)
        try:
            check_columns(rows, columns, listed.name)
            extents = rows.extents(shard_rows=self._shard_rows(columns.modality))
            shards = tuple(
                self._shard(rows=one.rows, sources=1, start=one.start, end=one.end, first_row=one.first_row)
                for one in extents
            )
        finally:
            rows.close()
        total = sum(shard.rows for shard in shards)
        self._sources += 1
        self._on_progress(listed.bytes)
        yield Planned(Source(listed.path, listed.name, listed.format, listed.bytes, listed.mtime_ns, total), shards)

    def finish(self) -> Iterator[Planned]:
        """Close the run of files that are a row each."""
        run, self._run = self._run, []
        if not run:
            return
        shard = self._shard(rows=len(run), sources=len(run), start=0, end=len(run), first_row=0)
        self._sources += len(run)
        for source in run:
            yield Planned(source, (shard,) if source is run[-1] else ())

    def _shard(self, *, rows: int, sources: int, start: int, end: int, first_row: int) -> Shard:
        shard = Shard(self._shards, self._rows, rows, self._sources, sources, start, end, first_row)
        self._shards += 1
        self._rows += rows
        return shard

    def _shard_rows(self, modality: Modality) -> int:
        return self.job.shard_rows or _SHARD_ROWS[modality]


def absolute(sources: Sequence[str]) -> tuple[str, ...]:
    """Return paths as they are named in a job."""
    return tuple(str(Path(source).expanduser().absolute()) for source in sources)
