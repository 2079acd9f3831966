"""Reads labelled files: JSONL, CSV or Parquet; repeats are folded, and every fault names its row."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder_client.contents import Image, Post, Text, Video, VideoFile, content_digest
from embedder_client.errors import InvalidRequest
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.kinds import Task
from embedder_heads.training.examples import Target

Row = Mapping[str, object]
Content = Text | Image | Video | VideoFile | Post

_MAX_FIELD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a file mean what.

    Attributes:
        text: column of texts; empty when there is none.
        image: column of image files, as paths beside the table or as bytes; empty when there is none.
        label: column of labels; a list, or a text that `separator` splits, means several labels.
        separator: splits a label's text into several labels; empty leaves it whole.
    """

    text: str = "text"
    image: str = ""
    label: str = "label"
    separator: str = ""


@dataclass(frozen=True, slots=True)
class LabelledTable:
    """What a labelled file holds, each content once.

    Attributes:
        contents: texts, images, videos, or posts of several.
        hashes: their content hashes, 32 bytes each.
        given: their labels.
        repeats: rows that repeat an earlier row's content with the same label.
        conflicts: rows that repeat an earlier row's content with another label; the earlier one was kept.
    """

    contents: tuple[Content, ...]
    hashes: tuple[bytes, ...]
    given: tuple[Target, ...]
    repeats: int
    conflicts: tuple[int, ...]


def read_labelled(path: Path, columns: Columns, *, task: Task) -> LabelledTable:
    """Read a labelled file.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file.
        columns: which columns mean what.
        task: what the labels mean.
    Raises:
        TrainingDataInvalid: the file can't be read, or a row lacks a content or a label.
    """
    contents: list[Content] = []
    hashes: list[bytes] = []
    given: list[Target] = []
    seen: dict[bytes, int] = {}
    repeats = 0
    conflicts = []
    for number, row in read_rows(path):
        content = content_of(row, columns.text, columns.image, number=number, folder=path.parent)
        target = _target(row, columns, task, number)
        digest = content_hash(content)
        if digest in seen:
            repeats += 1
            if given[seen[digest]] != target:
                conflicts.append(number)
            continue
        seen[digest] = len(contents)
        contents.append(content)
        hashes.append(digest)
        given.append(target)
    return LabelledTable(tuple(contents), tuple(hashes), tuple(given), repeats - len(conflicts), tuple(conflicts))


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (row number from 1, row) of a JSONL, CSV or Parquet file; raises TrainingDataInvalid."""
    readers = {".jsonl": _jsonl, ".ndjson": _jsonl, ".csv": _csv, ".parquet": _parquet}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise TrainingDataInvalid(f"{path.name} has the ending {path.suffix!r}; known are {', '.join(readers)}")
    try:
        yield from enumerate(reader(path), start=1)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataInvalid(f"{path.name} can't be read: {error}") from error


def content_of(row: Row, text: str, image: str, *, number: int, folder: Path, video: str = "") -> Content:
    """Take a row's content: the text, the image, the video, or several of them as a post.

    Args:
        row: the row.
        text: column of the text; empty when there is none.
        image: column of the image; empty when there is none.
        number: the row's number, for errors.
        folder: where relative paths of images and videos start.
        video: column of the video; empty when there is none.
    Raises:
        TrainingDataInvalid: there is none, or an image or video can't be read.
    """
    for column in filter(None, (text, image, video)):
        if column not in row:
            raise TrainingDataInvalid(f"row {number} has no column {column!r}; it has {sorted(row)}")
    parts: dict[str, Text | Image | Video | VideoFile] = {}
    if text and row[text] not in (None, ""):
        parts["text"] = Text(str(row[text]))
    if image and row[image] not in (None, ""):
        parts["image"] = Image(_image(row[image], number, folder))
    if video and row[video] not in (None, ""):
        parts["video"] = _video(row[video], number, folder)
    if not parts:
        columns = " and ".join(filter(None, (text, image, video)))
        raise TrainingDataInvalid(f"row {number} is empty in {columns or 'every column'}")
    return next(iter(parts.values())) if len(parts) == 1 else Post(parts)


def content_hash(content: Content) -> bytes:
    """Return a content's hash, 32 bytes, by which the cache knows it too."""
    return content_digest(content)


def _video(value: object, number: int, folder: Path) -> Video | VideoFile:
    if isinstance(value, bytes):
        return Video(value)
    try:
        return VideoFile(folder / str(value))
    except InvalidRequest as error:
        raise TrainingDataInvalid(f"row {number}: {error}") from error


def _image(value: object, number: int, folder: Path) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return (folder / str(value)).read_bytes()
    except OSError as error:
        raise TrainingDataInvalid(f"row {number}: image {value!r} can't be read: {error.strerror}") from error


def _target(row: Row, columns: Columns, task: Task, number: int) -> Target:
    if columns.label not in row:
        raise TrainingDataInvalid(f"row {number} has no column {columns.label!r}; it has {sorted(row)}")
    value = row[columns.label]
    if task is Task.REGRESSION:
        try:
            return float(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise TrainingDataInvalid(f"row {number}: {columns.label}={value!r} is not a number") from None
    if isinstance(value, str) and columns.separator:
        value = [part.strip() for part in value.split(columns.separator) if part.strip()]
    if task is Task.MULTI_LABEL:
        listed = value if isinstance(value, list | tuple) else [value] if value not in (None, "") else []
        return tuple(sorted({str(label) for label in listed}))
    if isinstance(value, list | tuple) or value in (None, ""):
        raise TrainingDataInvalid(f"row {number}: {columns.label}={value!r} is not one label")
    return str(value)


def _jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise TrainingDataInvalid(f"{path.name} line {number} is not JSON: {error}") from error
            if not isinstance(row, dict):
                raise TrainingDataInvalid(f"{path.name} line {number} is no JSON object")
            yield row


def _csv(path: Path) -> Iterator[Row]:
    csv.field_size_limit(_MAX_FIELD_BYTES)
    with path.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        for row in reader:
            if None in row or None in row.values():
                raise TrainingDataInvalid(f"{path.name} line {reader.line_num} has other columns than the header")
            yield row


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except pyarrow.ArrowException as error:
        raise TrainingDataInvalid(f"{path.name} is no Parquet file: {error}") from error
