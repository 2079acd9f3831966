"""What the commands on two spaces have in common: where vectors and originals lie, and whom to ask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from embedder.errors import SpaceConflict
from embedder.server.secrets import load_domain_secret
from embedder.spaces.administration import SpaceAdministration
from embedder_cache import CacheError, SpaceKey, VectorCache, space_key
from embedder_cache.opening import stored_settings

CacheDir = Annotated[
    Path | None, typer.Option(envvar="EMBEDDER_CACHE_DIR", help="Folder of the vector cache; default: DATA_DIR/cache.")
]
LabelledFile = Annotated[
    Path | None,
    typer.Option(
        "--labelled",
        help="JSONL, CSV or Parquet file of labelled contents: what heads make of both spaces.",
        exists=True,
    ),
]
TextColumn = Annotated[str, typer.Option("--text", help="Column of the texts; '' when there is none.")]
ImageColumn = Annotated[str, typer.Option("--image", help="Column of the images; '' when there is none.")]
LabelColumn = Annotated[str, typer.Option("--label", help="Column of the labels.")]
Separator = Annotated[str, typer.Option(help="Splits a label's text into several labels; '' leaves it whole.")]


@dataclass(frozen=True, slots=True)
class TwoSpaces:
    """Two spaces of one data folder, and the cache that holds both.

    Attributes:
        cache: open for reading.
        old: full name of the old space.
        new: full name of the new space.
        digests: of the old and the new space, 64 hex digits each.
        keys: of the old and the new space.
    """

    cache: VectorCache
    old: str
    new: str
    digests: tuple[str, str]
    keys: tuple[SpaceKey, SpaceKey]


@contextmanager
def open_two(desk: SpaceAdministration, old: str, new: str, cache_dir: Path | None) -> Iterator[TwoSpaces]:
    """Find two spaces by name or alias, and open the cache.

    Raises:
        UnknownSpace: there is no such space.
        SpaceConflict: both are the same, one was never loaded, or there is no cache.
    """
    document = desk.document()
    rows = [document.target(name) for name in (old, new)]
    if rows[0].name == rows[1].name:
        raise SpaceConflict(f"{old!r} and {new!r} are the same space, {rows[0].name}")
    digests = [desk.digest_of(document, row.name) for row in rows]
    dims = [desk.dim_of(document, row.name) for row in rows]
    secret = load_domain_secret(desk.data_dir)
    keys = [space_key(secret, bytes.fromhex(digest), dim) for digest, dim in zip(digests, dims, strict=True)]
    path = cache_dir or desk.data_dir / "cache"
    try:
        cache = VectorCache.open(path, stored_settings(path), read_only=True)
    except CacheError as error:
        raise SpaceConflict(f"the cache in {path} can't be read: {error}") from error
    with cache:
        yield TwoSpaces(cache, rows[0].name, rows[1].name, (digests[0], digests[1]), (keys[0], keys[1]))
