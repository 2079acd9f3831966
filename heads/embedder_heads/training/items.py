"""Reads files of items for an index: an id, a content, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.index.metadata import Metadata
from embedder_heads.training.table import Content, content_of, read_rows


@dataclass(frozen=True, slots=True)
class Items:
    """Items of a file, in its order.

    Attributes:
        ids: their ids.
        contents: their contents.
        metadata: what is kept beside their vectors.
    """

    ids: tuple[str, ...]
    contents: tuple[Content, ...]
    metadata: tuple[Metadata, ...]


def read_items(path: Path, *, item_id: str, text: str, image: str, metadata: Sequence[str], video: str = "") -> Items:
    """Read a file of items.

    Args:
        path: a `.jsonl`, `.csv` or `.parquet` file.
        item_id: column of the ids.
        text: column of the texts; empty when there is none.
        image: column of the images; empty when there is none.
        video: column of the videos; empty when there is none.
        metadata: columns to keep; an empty cell is left out.
    Raises:
        TrainingDataInvalid: the file can't be read, or a row lacks its id or content.
    """
    ids: list[str] = []
    contents: list[Content] = []
    kept: list[Metadata] = []
    for number, row in read_rows(path):
        for column in (item_id, *metadata):
            if column not in row:
                raise TrainingDataInvalid(f"row {number} has no column {column!r}; it has {sorted(row)}")
        if row[item_id] in (None, ""):
            raise TrainingDataInvalid(f"row {number} has no id in column {item_id!r}")
        ids.append(str(row[item_id]))
        contents.append(content_of(row, text, image, number=number, folder=path.parent, video=video))
        kept.append(
            {column: _plain(row[column], number, column) for column in metadata if row[column] not in (None, "")}
        )
    if not ids:
        raise TrainingDataInvalid(f"{path.name} holds no items")
    return Items(tuple(ids), tuple(contents), tuple(kept))


def _plain(value: object, number: int, column: str) -> str | int | float | list[str]:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    raise TrainingDataInvalid(f"row {number}: {column}={value!r} is no text, number or list of texts")
