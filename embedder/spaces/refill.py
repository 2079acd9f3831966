"""Fills a new space with what an old one holds: the cache has vectors and no originals, so these are read from where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from embedder.errors import InvalidRequest
from embedder_cache import SpaceKey, VectorCache
from embedder_client import Client, ClientSettings
from embedder_client.contents import Image, Text, content_digest

_CHUNK = 256
_IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})
_TABLES = frozenset({".jsonl", ".ndjson", ".csv", ".parquet"})


@dataclass(frozen=True, slots=True)
class Originals:
    """Where originals lie, and how tables of them are read.

    Attributes:
        paths: tables (JSONL, CSV, Parquet), folders and files of images and `.txt` texts.
        text: column of texts; empty for none.
        image: column of image files, as paths beside the table or as bytes; empty for none.
    """

    paths: tuple[Path, ...]
    text: str = "text"
    image: str = ""


@dataclass(slots=True)
class RefillReport:
    """What became of the originals.

    Attributes:
        read: contents read, each hash once.
        unknown: of these not held in the old space, so left out.
        held: of these held in the new space before.
        computed: of these computed now, or by somebody else meanwhile.
        failures: of these that failed, by reason.
        old_entries: contents that the old space holds.
        left: of these still missing in the new space: no original of theirs was among those given, or it failed.
    """

    read: int = 0
    unknown: int = 0
    held: int = 0
    computed: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    old_entries: int = 0
    left: int = 0


def read_originals(originals: Originals) -> Iterator[Text | Image | Any]:
    """Read contents one by one.

    Raises:
        InvalidRequest: a path is neither a table, nor a folder, nor a text or image file.
        TrainingDataInvalid: a row has no such column, or can't be read.
    """
    from embedder_heads.training.table import content_of, read_rows

    for path in originals.paths:
        if path.is_dir():
            for file in sorted(path.rglob("*")):
                if file.is_file() and file.suffix.lower() in _IMAGES | {".txt"}:
                    yield _file_content(file)
        elif path.suffix.lower() in _TABLES:
            for number, row in read_rows(path):
                yield content_of(row, originals.text, originals.image, number=number, folder=path.parent)
        elif path.suffix.lower() in _IMAGES | {".txt"}:
            yield _file_content(path)
        else:
            raise InvalidRequest(
                f"{path} is no folder, and its ending is none of {', '.join(sorted(_TABLES | _IMAGES | {'.txt'}))}"
            )


def refill(
    contents: Iterable[Any],
    cache: VectorCache,
    *,
    spaces: tuple[SpaceKey, SpaceKey],
    client: Client,
    new: str,
    on_progress: Callable[[int], None] = lambda done: None,
) -> RefillReport:
    """Compute in the new space what the old one holds, in the bulk lane of a running service.

    Args:
        contents: originals; what the old space does not hold is left out.
        cache: holds both spaces; it is only read.
        spaces: key range of the old space, and of the new one.
        client: asks the service.
        new: full name of the new space.
        on_progress: told how many contents were read.
    """
    report = RefillReport()
    old_key, new_key = spaces
    seen: set[bytes] = set()

    def wanted_batches() -> Iterator[list[Any]]:
        for chunk in _chunks(contents):
            fresh = {content_digest(content): content for content in chunk}
            fresh = {digest: content for digest, content in fresh.items() if digest not in seen}
            seen.update(fresh)
            packed = b"".join(fresh)
            is_live = cache.get_many(old_key, packed).found
            is_held = cache.get_many(new_key, packed).found & is_live
            report.read += len(fresh)
            report.unknown += int(np.count_nonzero(~is_live))
            report.held += int(np.count_nonzero(is_held))
            batch = [content for content, take in zip(fresh.values(), is_live & ~is_held, strict=True) if take]
            on_progress(report.read)
            if batch:
                yield batch

    for result in client.embed_stream(wanted_batches(), space=new, task="migrate", durable=True):
        report.failures.update(failure.reason for failure in result.failures)
        report.computed += len(result) - len(result.failures)
    report.old_entries, report.left = _coverage(cache, old_key, new_key)
    return report


def _coverage(cache: VectorCache, old: SpaceKey, new: SpaceKey) -> tuple[int, int]:
    """Count the contents that the old space holds, and those of them that the new one lacks."""
    from embedder.spaces.pairing import held_hashes

    entries = left = 0
    seen: set[bytes] = set()
    several = len(cache.generations()) > 1
    for hashes in held_hashes(cache, old):
        packed = np.ascontiguousarray(hashes)
        if several:  # one that was copied forward stands in two generations
            names = [row.tobytes() for row in packed]
            packed = packed[[name not in seen for name in names]]
            seen.update(names)
        entries += len(packed)
        left += int(np.count_nonzero(~cache.get_many(new, packed.tobytes()).found)) if len(packed) else 0
    return entries, left


def refill_client(target: str, *, token: str, tls_root: Path | None) -> Client:
    """Return a client for bulk work."""
    authority = tls_root.read_bytes() if tls_root else None
    settings = ClientSettings(client_name="embedder-spaces", bearer_token=token, tls_root_certificates=authority)
    return Client(target, settings=settings)


def _chunks(contents: Iterable[Any]) -> Iterator[list[Any]]:
    chunk: list[Any] = []
    for content in contents:
        chunk.append(content)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _file_content(path: Path) -> Text | Image:
    if path.suffix.lower() == ".txt":
        return Text(path.read_text(encoding="utf-8"))
    return Image(path.read_bytes())
