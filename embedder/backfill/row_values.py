"""Turns a row's values into a content with its hash; what can't be turned says why, in words."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from embedder.backfill.job import ContentColumns
from embedder.engine.contents import ContentItem, PostField
from embedder.errors import EmbedderError, InvalidContent
from embedder.media.limits import MediaLimits
from embedder_client.content_hash import Modality, content_hasher, hash_content, hash_post, hash_text

# A video from here on is mapped rather than read, so that a shard of them takes no memory.
_MAPPED_BYTES = 8 << 20
_PIECE_BYTES = 1 << 20


class RowContents:
    """Makes contents of rows."""

    def __init__(self, columns: ContentColumns, limits: MediaLimits) -> None:
        self._columns = columns
        self._limits = limits

    def items(self, columns: Mapping[str, Sequence[Any]], folder: Path) -> Iterator[ContentItem]:
        """Make each row's content; one that can't be made carries its error.

        Args:
            columns: (rows) values by column.
            folder: where relative paths begin.
        """
        modality, limits = self._columns.modality, self._limits
        if modality is Modality.POST:
            names = [field.column for field in self._columns.fields]
            for values in zip(*[columns[name] for name in names], strict=True):
                yield self._made(lambda row: self._post(row, folder), dict(zip(names, values, strict=True)))
            return
        for value in columns[self._columns.column]:
            yield self._made(lambda one: content_item(modality, one, folder=folder, limits=limits), value)

    def _made(self, make: Callable[[Any], ContentItem], value: Any) -> ContentItem:
        try:
            return make(value)
        except EmbedderError as error:
            return ContentItem(b"", error=error)

    def _post(self, values: Mapping[str, Any], folder: Path) -> ContentItem:
        fields: dict[str, ContentItem] = {}
        for field in self._columns.fields:
            value = values[field.column]
            if value is None or value == "":  # a post without a picture is a post of its text
                continue
            try:
                fields[field.name] = content_item(field.modality, value, folder=folder, limits=self._limits)
            except EmbedderError as error:
                raise error.in_post_field(field.name) from error
        if not fields:
            raise InvalidContent("the post has no fields: all its columns are empty")
        digest = hash_post({name: item.content_hash for name, item in fields.items()})
        return ContentItem(digest, Modality.POST, tuple(PostField(name, fields[name]) for name in sorted(fields)))


def content_item(modality: Modality, value: Any, *, folder: Path, limits: MediaLimits) -> ContentItem:
    """Make a content of one value.

    Args:
        modality: text, image or video.
        value: a text; or for an image or video its bytes, its path or `file:` URI, or an object with `bytes` or `path`.
        folder: where relative paths begin.
        limits: how large a file may be.
    Raises:
        InvalidContent: the value is none of these, or the file can't be read.
    """
    if value is None:
        raise InvalidContent(f"there is no {modality}: the value is empty")
    if modality is Modality.TEXT:
        return _text(value)
    if isinstance(value, dict):  # as the Hugging Face datasets keep images
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return ContentItem(hash_content(modality, value), modality, value)
    if isinstance(value, str) and value:
        return file_item(modality, _path(value, folder), limits=limits)
    raise InvalidContent(f"the {modality} is {type(value).__name__}; bytes, or a path, are wanted")


def file_item(modality: Modality, path: Path, *, limits: MediaLimits) -> ContentItem:
    """Make a content of a file; raises InvalidContent where it can't be read or is over its limit."""
    try:
        size = path.stat().st_size
        if modality is not Modality.TEXT:
            limits.check("max_image_bytes" if modality is Modality.IMAGE else "max_video_bytes", size)
        if modality is Modality.VIDEO and size >= _MAPPED_BYTES:
            return _mapped(path, size)
        data = path.read_bytes()
    except OSError as error:
        raise InvalidContent(f"{path} can't be read: {error.strerror or error}") from error
    if modality is not Modality.TEXT:
        return ContentItem(hash_content(modality, data), modality, data)
    try:
        return _text(data.decode())
    except UnicodeDecodeError as error:
        raise InvalidContent(f"{path} is not UTF-8: {error}") from error


def _text(value: Any) -> ContentItem:
    if not isinstance(value, str):
        raise InvalidContent(f"the text is {type(value).__name__}; a string is wanted")
    try:
        return ContentItem(hash_text(value), Modality.TEXT, value)
    except UnicodeEncodeError as error:
        raise InvalidContent(f"the text holds a lone surrogate at character {error.start}") from error


def _mapped(path: Path, size: int) -> ContentItem:
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    hasher = content_hasher(Modality.VIDEO, size)
    for start in range(0, size, _PIECE_BYTES):
        hasher.update(mapped[start : start + _PIECE_BYTES])
    return ContentItem(hasher.digest(), Modality.VIDEO, mapped)


def _path(value: str, folder: Path) -> Path:
    if value.startswith("file:"):
        return Path(unquote(urlsplit(value).path))
    if "://" in value:
        raise InvalidContent(
            f"{value:.80} is no file of this machine: paths and file: URIs are read, nothing is fetched"
        )
    return folder / value
