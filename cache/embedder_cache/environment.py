"""Opening LMDB files with care: a cut file would kill the process with SIGBUS, and not every refusal is damage."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import lmdb

from embedder_cache.errors import CacheDamaged, CacheError, CacheLocked

_MAGIC = 0xBEEFC0DE
_VERSION = 1
_PAGE_HEADER_BYTES = 16
# magic, version, address, map size, two database headers (the first starts with the page size), last page, transaction
_META = struct.Struct("<IIQQ I44s 48s QQ")
_META_PAGES = 2
_PAGE_SIZES = frozenset(1 << power for power in range(9, 17))


_DAMAGE = (lmdb.CorruptedError, lmdb.InvalidError, lmdb.PageNotFoundError, lmdb.PanicError, lmdb.VersionMismatchError)


def open_environment(
    path: Path, *, writable: bool, map_bytes: int, max_readers: int, **flags: bool
) -> lmdb.Environment:
    """Open an LMDB environment after checking its file, or create it when it may be written; frees dead readers' slots.

    Args:
        path: its folder.
        writable: whether this process writes.
        map_bytes: size of the map of a new environment.
        max_readers: how many threads of all processes may read at once.
        flags: passed on to LMDB.
    Raises:
        CacheDamaged: the file is missing, cut or refused as damaged.
        CacheLocked: this process has it open already, which LMDB does not bear.
        CacheError: it can't be opened for another reason, which the message tells.
    """
    if writable:
        path.mkdir(mode=0o700, exist_ok=True)
    if (path / "data.mdb").exists() or not writable:
        check_lmdb_file(path / "data.mdb")
    try:
        environment = lmdb.open(
            os.fspath(path),
            map_size=map_bytes,
            readonly=not writable,
            create=writable,
            mode=0o600,
            max_readers=max_readers,
            max_spare_txns=64,
            **flags,
        )
        environment.reader_check()
    except _DAMAGE as error:
        raise CacheDamaged(f"{path} is damaged: {error}") from error
    except lmdb.Error as error:
        kind = CacheLocked if "already open" in str(error) else CacheError
        raise kind(f"{path} can't be opened: {error}") from error
    return environment


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
