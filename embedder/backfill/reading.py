"""Reads shards: rows of files, and files that are rows themselves, into named contents."""

from __future__ import annotations

from pathlib import Path

from embedder.backfill.manifest import Manifest, Source
from embedder.backfill.row_values import RowContents, file_item
from embedder.backfill.shard import Shard
from embedder.backfill.shard_contents import ShardContents
from embedder.backfill.sources.formats import ROW_FORMATS, open_rows
from embedder.backfill.sources.row_file import Extent, RowFile
from embedder.engine.contents import ContentItem
from embedder.errors import ConfigurationError, EmbedderError, InvalidContent
from embedder.media.limits import MediaLimits
from embedder_client.content_hash import Modality


class ShardReader:
    """Reads the shards of one manifest; used by one thread. The file of the last shard stays open for the next."""

    def __init__(self, manifest: Manifest, limits: MediaLimits) -> None:
        self._manifest = manifest
        self._limits = limits
        columns = manifest.job.columns
        self._columns = columns
        self._contents = RowContents(columns, limits) if columns is not None else None
        self._open: tuple[int, Source, RowFile] | None = None

    def close(self) -> None:
        """Close the file that is open."""
        if self._open is not None:
            self._open[2].close()
            self._open = None

    def read(self, shard: Shard) -> ShardContents:
        """Read a shard; a row that can't be read carries its error.

        Raises:
            ConfigurationError: a file was changed since the job was planned.
            InvalidRequest: a file is not of its format any more.
        """
        if self._manifest.source(shard.source).format in ROW_FORMATS:
            return self._read_rows(shard)
        ids: list[str] = []
        items: list[ContentItem] = []
        for number in range(shard.source, shard.source + shard.sources):
            source = self._manifest.source(number)
            ids.append(source.name)
            items.append(self._read_file(source))
        return ShardContents(shard, ids, items, sum(map(_payload_bytes, items)))

    def _read_file(self, source: Source) -> ContentItem:
        """Read a file that is a content; one that was changed or is gone fails alone."""
        path = Path(source.path)
        try:
            stat = path.stat()
            if (stat.st_size, stat.st_mtime_ns) != (source.bytes, source.mtime_ns):
                raise InvalidContent(f"{path} was changed since the job was planned")
            return file_item(Modality(source.format), path, limits=self._limits)
        except OSError as error:
            return ContentItem(b"", error=InvalidContent(f"{path} can't be read: {error.strerror or error}"))
        except EmbedderError as error:
            return ContentItem(b"", error=error)

    def _read_rows(self, shard: Shard) -> ShardContents:
        source, rows = self._file(shard.source)
        assert self._columns is not None
        assert self._contents is not None
        extent = Extent(shard.start, shard.end, shard.first_row, shard.rows)
        names = self._columns.names
        block = rows.read(extent, names)
        if block.rows != shard.rows:
            raise ConfigurationError(
                f"{source.path} has {block.rows} rows where {shard.rows} were planned: it was changed; plan the job anew"
            )
        folder = Path(source.path).parent
        items = list(self._contents.items(block.columns, folder))
        for row, failure in block.failures.items():
            items[row] = ContentItem(b"", error=InvalidContent(failure))
        return ShardContents(shard, self._ids(block.columns, source, shard), items, sum(map(_payload_bytes, items)))

    def _ids(self, columns: dict[str, list[object]], source: Source, shard: Shard) -> list[str]:
        assert self._columns is not None
        given: list[object] = columns[self._columns.id_column] if self._columns.id_column else [None] * shard.rows
        return [
            f"{source.name}#{shard.first_row + row}" if value is None else str(value) for row, value in enumerate(given)
        ]

    def _file(self, number: int) -> tuple[Source, RowFile]:
        if self._open is None or self._open[0] != number:
            self.close()
            source = self._manifest.source(number)
            check_unchanged(source)
            self._open = (number, source, open_rows(Path(source.path), source.format))
        return self._open[1:]


def check_unchanged(source: Source) -> None:
    """Refuse a file that is not the one that was planned; raises ConfigurationError."""
    try:
        stat = Path(source.path).stat()
    except OSError as error:
        raise ConfigurationError(f"{source.path} can't be read: {error.strerror or error}") from error
    if (stat.st_size, stat.st_mtime_ns) != (source.bytes, source.mtime_ns):
        raise ConfigurationError(
            f"{source.path} was changed since the job was planned; run the command anew with another --job: what is cached is skipped"
        )


def _payload_bytes(item: ContentItem) -> int:
    payload = item.payload
    if isinstance(payload, tuple):
        return sum(_payload_bytes(field.item) for field in payload)
    return len(payload) if isinstance(payload, str | bytes) else 0
