"""Which format a file has, by its name, and how it is opened."""

from __future__ import annotations

from pathlib import Path

from embedder.backfill.sources.csv_file import CsvRows
from embedder.backfill.sources.jsonl_file import JsonLines
from embedder.backfill.sources.parquet_file import ParquetRows
from embedder.backfill.sources.row_file import RowFile
from embedder.backfill.sources.tar_file import TarSamples
from embedder_client.content_hash import Modality

_ROW_SUFFIXES = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tar": "tar",
}
_MEDIA_SUFFIXES = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"), Modality.IMAGE),
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"), Modality.VIDEO),
    ".txt": Modality.TEXT,
}
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".tgz")

ROW_FORMATS = tuple(dict.fromkeys(_ROW_SUFFIXES.values()))


def row_format_of(path: Path) -> str | None:
    """Return the format of a file of rows; None for anything else."""
    return _ROW_SUFFIXES.get(path.suffix.lower())


def medium_of(name: str) -> Modality | None:
    """Return the medium of a file that is a content itself; None for anything else."""
    return _MEDIA_SUFFIXES.get(Path(name).suffix.lower())


def is_compressed(path: Path) -> bool:
    """Tell whether a file can't be read from its middle."""
    return path.suffix.lower() in _COMPRESSED


def open_rows(path: Path, row_format: str) -> RowFile:
    """Open a file of rows; raises InvalidRequest where it is not of its format."""
    match row_format:
        case "parquet":
            return ParquetRows(path)
        case "jsonl":
            return JsonLines(path)
        case "csv":
            return CsvRows(path, delimiter=",")
        case "tsv":
            return CsvRows(path, delimiter="\t")
        case "tar":
            return TarSamples(path)
        case _:
            raise ValueError(f"{row_format!r} is no format of rows")
