"""Checks on a generation's files before they are mapped: a cut file would kill the process with SIGBUS."""

from __future__ import annotations

import struct
from pathlib import Path

from embedder_cache.errors import CacheDamaged

_MAGIC = 0xBEEFC0DE
_VERSION = 1
_PAGE_HEADER_BYTES = 16
# magic, version, address, map size, two database headers (the first starts with the page size), last page, transaction
_META = struct.Struct("<IIQQ I44s 48s QQ")
_META_PAGES = 2
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))


def check_lmdb_file(path: Path) -> None:
    """Check that an LMDB file holds every page that its newest meta page counts on.

    Raises:
        CacheDamaged: the file is missing, cut, or no LMDB file.
    Source: LMDB 0.9, mdb.c, MDB_meta and mdb_env_pick_meta.
    """
    name = f"{path.parent.parent.name}/{path.parent.name}/{path.name}"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_PAGE_HEADER_BYTES + _META.size)
            metas = [_unpack_meta(head)]
            page_bytes = metas[0][0]
            for page in range(1, _META_PAGES):
                file.seek(page * page_bytes)
                metas.append(_unpack_meta(file.read(_PAGE_HEADER_BYTES + _META.size)))
    except OSError as error:
        raise CacheDamaged(f"{name} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise CacheDamaged(f"{name} is damaged: {error}") from error
    last_page = max(metas, key=lambda meta: meta[2])[1]
    needed = (last_page + 1) * page_bytes
    if size < needed:
        raise CacheDamaged(f"{name} has {size} bytes and needs {needed}: it was cut")


def _unpack_meta(page: bytes) -> tuple[int, int, int]:
    """Read page size, last page and transaction number of a meta page; raises ValueError when it is none."""
    if len(page) < _PAGE_HEADER_BYTES + _META.size:
        raise ValueError("a meta page is cut")
    magic, version, _, _, page_bytes, _, _, last_page, transaction = _META.unpack_from(page, _PAGE_HEADER_BYTES)
    if magic != _MAGIC or version != _VERSION or page_bytes not in _PAGE_SIZES:
        raise ValueError("a meta page does not have LMDB's form")
    return page_bytes, last_page, transaction
