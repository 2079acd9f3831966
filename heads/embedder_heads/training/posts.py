"""Reads labelled posts: JSON lines of named fields and a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder_client import Image, Text, VideoFile
from embedder_client.errors import InvalidRequest
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.training.table import Row, read_rows

FieldContent = Text | Image | VideoFile


@dataclass(frozen=True, slots=True)
class LabelledPosts:
    """Posts of a file, in its order.

    Attributes:
        posts: each post's fields by name; a field that a post lacks is not there.
        labels: their labels.
        names: every field name, sorted.
    """

    posts: tuple[Mapping[str, FieldContent], ...]
    labels: tuple[str, ...]
    names: tuple[str, ...]


def read_posts(path: Path, *, fields: str, label: str) -> LabelledPosts:
    """Read a file of labelled posts.

    A row's fields are an object: a text is a string, other media are `{"image": PATH}` or `{"video": PATH}`, from the file's folder
    on. Empty strings and nulls are fields that the post lacks.

    Args:
        path: a `.jsonl` or `.parquet` file.
        fields: column of the fields.
        label: column of the label.
    Raises:
        TrainingDataInvalid: the file can't be read, or a row lacks its fields or label.
    """
    posts: list[Mapping[str, FieldContent]] = []
    labels: list[str] = []
    for number, row in read_rows(path):
        posts.append(_fields(row, fields, number, path.parent))
        given = row.get(label)
        if not isinstance(given, str | int) or given == "":
            raise TrainingDataInvalid(f"row {number}: {label}={given!r} is not one label")
        labels.append(str(given))
    if not posts:
        raise TrainingDataInvalid(f"{path.name} holds no posts")
    names = tuple(sorted({name for post in posts for name in post}))
    return LabelledPosts(tuple(posts), tuple(labels), names)


def _fields(row: Row, column: str, number: int, folder: Path) -> Mapping[str, FieldContent]:
    given = row.get(column)
    if not isinstance(given, dict):
        raise TrainingDataInvalid(f"row {number}: {column} is not an object of named fields; the row has {sorted(row)}")
    read = {name: _field(value, f"row {number}, field {name!r}", folder) for name, value in given.items()}
    present = {name: value for name, value in read.items() if value is not None}
    if not present:
        raise TrainingDataInvalid(f"row {number} has no field that is not empty")
    return present


def _field(value: object, where: str, folder: Path) -> FieldContent | None:
    match value:
        case None | "":
            return None
        case str():
            return Text(value)
        case {"image": str(name)}:
            try:
                return Image((folder / name).read_bytes())
            except OSError as error:
                raise TrainingDataInvalid(f"{where}: image {name!r} can't be read: {error.strerror}") from error
        case {"video": str(name)}:
            try:
                return VideoFile(folder / name)
            except InvalidRequest as error:
                raise TrainingDataInvalid(f"{where}: {error}") from error
        case _:
            raise TrainingDataInvalid(f"{where} is neither a text, nor an object with an image or a video")
