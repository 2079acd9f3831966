"""Reads files of items for an index: an id, a content, and what is kept beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from embedder_client import Text
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.index.metadata import Metadata
from embedder_heads.index.passages import split_passages
from embedder_heads.training.table import Content, content_of, read_rows


@dataclass(frozen=True, slots=True)
class Items:
    """Items of a file, in its order.

    Attributes:
        ids: their ids.
        contents: their contents.
        metadata: what is kept beside their vectors.
        texts: their texts, empty where an item has none.
    """

    ids: tuple[str, ...]
    contents: tuple[Content, ...]
    metadata: tuple[Metadata, ...]
    texts: tuple[str, ...]

    def in_passages(self, max_words: int) -> Items:
        """Cut each text into passages of at most `max_words` words: items of their own, "ID#0", "ID#1", with the same metadata.

        Items without a text stay whole.
        """
        ids: list[str] = []
        contents: list[Content] = []
        metadata: list[Metadata] = []
        texts: list[str] = []
        for item_id, content, kept, text in zip(self.ids, self.contents, self.metadata, self.texts, strict=True):
            passages = split_passages(text, max_words=max_words) if isinstance(content, Text) else []
            for number, passage in enumerate(passages):
                ids.append(f"{item_id}#{number}")
                contents.append(Text(passage))
                metadata.append(kept)
                texts.append(passage)
            if not passages:
                ids.append(item_id)
                contents.append(content)
                metadata.append(kept)
                texts.append(text)
        return Items(tuple(ids), tuple(contents), tuple(metadata), tuple(texts))


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
    texts: list[str] = []
    for number, row in read_rows(path):
        for column in (item_id, *metadata):
            if column not in row:
                raise TrainingDataInvalid(f"row {number} has no column {column!r}; it has {sorted(row)}")
        if row[item_id] in (None, ""):
            raise TrainingDataInvalid(f"row {number} has no id in column {item_id!r}")
        ids.append(str(row[item_id]))
        contents.append(content_of(row, text, image, number=number, folder=path.parent, video=video))
        texts.append(str(row.get(text) or "") if text else "")
        kept.append(
            {column: _plain(row[column], number, column) for column in metadata if row[column] not in (None, "")}
        )
    if not ids:
        raise TrainingDataInvalid(f"{path.name} holds no items")
    return Items(tuple(ids), tuple(contents), tuple(kept), tuple(texts))


def _plain(value: object, number: int, column: str) -> str | int | float | list[str]:
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list) and all(isinstance(entry, str) for entry in value):
        return value
    raise TrainingDataInvalid(f"row {number}: {column}={value!r} is no text, number or list of texts")
