"""The manifest: a folder that says what a job reads, shard by shard; written once and never changed.

`manifest.json` names the job and the digests of two tables beside it, so that its own digest names everything. The tables are Arrow
files that are mapped, never read as a whole: a billion rows take no more memory than a thousand.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from embedder.backfill.job import Job
from embedder.backfill.shard import Shard
from embedder.errors import ConfigurationError
from embedder_client.content_hash import Modality

_FORMAT = 1
_NAME = "manifest.json"
_SOURCES, _SHARDS = "sources.arrow", "shards.arrow"
_BATCH = 8_192
_DIGEST_BYTES = 1 << 20

_SOURCE_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("name", pa.string()),
        ("format", pa.string()),
        ("bytes", pa.int64()),
        ("mtime_ns", pa.int64()),
        ("rows", pa.int64()),
    ]
)
_SHARD_SCHEMA = pa.schema(
    [
        ("number", pa.int64()),
        ("row_offset", pa.int64()),
        ("rows", pa.int32()),
        ("source", pa.int64()),
        ("sources", pa.int32()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("first_row", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Source:
    """One file that is read.

    Attributes:
        path: absolute.
        name: for people and ids: its path below the folder that was given, or its file name.
        format: `parquet`, `jsonl`, `csv`, `tsv`, `tar`; or the medium of a file that is a content itself.
        bytes: its size when the job was planned.
        mtime_ns: when it was last changed before that, in nanoseconds since 1970.
        rows: how many rows it has.
    """

    path: str
    name: str
    format: str
    bytes: int
    mtime_ns: int
    rows: int


class Manifest:
    """A planned job, open for reading. Thread-safe."""

    def __init__(self, folder: Path) -> None:
        """Open a folder that `write_manifest` filled.

        Raises:
            ConfigurationError: there is no manifest, or its files are not what it says.
        """
        self.folder = folder
        try:
            packed = (folder / _NAME).read_bytes()
            described: dict[str, Any] = json.loads(packed)
            if described["format"] != _FORMAT:
                raise ConfigurationError(
                    f"{folder / _NAME} has the format {described['format']}; this version reads {_FORMAT}"
                )
            self.job = Job.from_json(described["job"])
            self.rows = int(described["rows"])
            self.input_bytes = int(described["input_bytes"])
            self.left_out = int(described["left_out"])
            self.shards = int(described["shards"])
            digests = described["tables"]
        except FileNotFoundError as error:
            raise ConfigurationError(f"{folder} holds no manifest: plan the job first") from error
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"{folder / _NAME} is no manifest of a job: {error!r}") from error
        self.digest = hashlib.sha256(packed).hexdigest()
        for name in (_SOURCES, _SHARDS):
            if _file_digest(folder / name) != digests[name]:
                raise ConfigurationError(
                    f"{folder / name} is not the table that the manifest was written with; plan the job anew"
                )
        with ExitStack() as stack:
            self._source_table = _mapped(folder / _SOURCES, stack)
            self._shard_table = _mapped(folder / _SHARDS, stack)
            self._files = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the tables."""
        self._files.close()

    def source(self, number: int) -> Source:
        """Return one file by its place in the table."""
        return Source(**self._source_table.slice(number, 1).to_pylist()[0])

    def sources(self) -> Iterator[Source]:
        """Go through all files."""
        for batch in self._source_table.to_batches(max_chunksize=_BATCH):
            for row in batch.to_pylist():
                yield Source(**row)

    def shard(self, number: int) -> Shard:
        """Return one shard by its number."""
        return Shard(**self._shard_table.slice(number, 1).to_pylist()[0])

    def all_shards(self) -> Iterator[Shard]:
        """Go through all shards in order."""
        for batch in self._shard_table.to_batches(max_chunksize=_BATCH):
            for row in batch.to_pylist():
                yield Shard(**row)

    @property
    def has_wholes(self) -> bool:
        """Whether rows may be posts or videos."""
        import pyarrow.compute as pc

        columns = self.job.columns
        if columns is not None and columns.modality in (Modality.POST, Modality.VIDEO):
            return True
        return bool(pc.any(pc.equal(self._source_table["format"], Modality.VIDEO.value)).as_py())

    @property
    def most_rows(self) -> int:
        """Rows of the largest shard; 0 without shards."""
        import pyarrow.compute as pc

        return int(pc.max(self._shard_table["rows"]).as_py() or 0)


@dataclass(frozen=True, slots=True)
class Planned:
    """A file with the shards that it makes, as planning goes along; `shards` may be empty for a file that shares the next one's."""

    source: Source
    shards: tuple[Shard, ...]


def write_manifest(folder: Path, job: Job, planned: Iterable[Planned], *, left_out: Callable[[], int]) -> None:
    """Write a job's manifest; it is there whole or not at all.

    Args:
        folder: the job's, which exists.
        job: what is asked.
        planned: files with their shards, in order; taken one by one.
        left_out: tells, once all are taken, how many files of the given folders are of no known kind.
    """
    rows = shards = input_bytes = 0
    with (
        pa.OSFile(str(folder / _SOURCES), "wb") as source_file,
        pa.ipc.new_file(source_file, _SOURCE_SCHEMA) as source_writer,
        pa.OSFile(str(folder / _SHARDS), "wb") as shard_file,
        pa.ipc.new_file(shard_file, _SHARD_SCHEMA) as shard_writer,
    ):
        sources = _Rows(source_writer, _SOURCE_SCHEMA)
        table = _Rows(shard_writer, _SHARD_SCHEMA)
        for one in planned:
            sources.add(astuple(one.source))
            input_bytes += one.source.bytes
            for shard in one.shards:
                table.add(astuple(shard))
                rows += shard.rows
                shards += 1
        sources.flush()
        table.flush()
    described = {
        "format": _FORMAT,
        "job": job.to_json(),
        "rows": rows,
        "shards": shards,
        "input_bytes": input_bytes,
        "left_out": left_out(),
        "tables": {name: _file_digest(folder / name) for name in (_SOURCES, _SHARDS)},
    }
    write_whole(folder / _NAME, json.dumps(described, indent=1).encode())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, and stays after a loss of power."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


class _Rows:
    """Rows on their way into an Arrow file, a batch at a time."""

    def __init__(self, writer: Any, schema: pa.Schema) -> None:
        self._writer = writer
        self._schema = schema
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        self._rows.append(row)
        if len(self._rows) == _BATCH:
            self.flush()

    def flush(self) -> None:
        if self._rows:
            columns = [
                pa.array(column, field.type)
                for column, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
            self._rows = []


def _mapped(path: Path, stack: ExitStack) -> pa.Table:
    file = stack.enter_context(pa.memory_map(str(path)))
    return pa.ipc.open_file(file).read_all()


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_DIGEST_BYTES):
            digest.update(piece)
    return digest.hexdigest()
