"""Opening a cache's folder: the writer's lock, the catalogue, and what the last writer was told."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from pathlib import Path

from embedder_cache.catalogue import Catalogue, Request
from embedder_cache.errors import CacheDamaged, CacheLocked
from embedder_cache.settings import CacheSettings

_CATALOGUE = "catalogue"
_WRITER_LOCK = "writer.lock"
_POLL_S = 0.1


def lock_for_writing(path: Path) -> int:
    """Take the writer's lock; the system lets it go when the process ends, however it ends.

    Returns:
        A file descriptor; closing it gives the lock back.
    Raises:
        CacheLocked: another process has it.
    """
    lock = os.open(path / _WRITER_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise CacheLocked(f"another process writes to {path}") from error
    return lock


def open_catalogue(path: Path, *, writable: bool) -> Catalogue:
    """Open a cache's catalogue; a writer begins a new one in the place of one that is damaged.

    Raises:
        CacheDamaged: it is opened for reading, and is not there or can't be read.
    """
    try:
        return Catalogue(path / _CATALOGUE, writable=writable)
    except CacheDamaged:
        if not writable:
            raise
        shutil.rmtree(path / _CATALOGUE)
        return Catalogue(path / _CATALOGUE, writable=True)


def stored_settings(path: str | os.PathLike[str]) -> CacheSettings:
    """Read how the last writer of a cache was told to behave; the defaults when that is not known.

    Raises:
        CacheDamaged: there is no cache, or its catalogue can't be read.
    """
    catalogue = Catalogue(Path(path) / _CATALOGUE, writable=False)
    try:
        return catalogue.settings() or CacheSettings()
    finally:
        catalogue.close()


def ask_writer(path: str | os.PathLike[str], request: Request, *, max_wait_s: float) -> None:
    """Ask the process that writes to a cache for a change, and wait until it is done.

    Raises:
        CacheLocked: it is not done after `max_wait_s`; the request stays, for this writer or the next one.
        CacheDamaged: there is no cache, or its catalogue can't be read.
    """
    if not (Path(path) / _CATALOGUE).exists():
        raise CacheDamaged("there is no cache")
    catalogue = Catalogue(Path(path) / _CATALOGUE, writable=True)
    try:
        number = catalogue.add_request(request)
        give_up_at = time.monotonic() + max_wait_s
        while number in catalogue.requests():
            if time.monotonic() >= give_up_at:
                raise CacheLocked(
                    f"the writer did not carry the request out within {max_wait_s:g} s; it stays asked for"
                )
            time.sleep(_POLL_S)
    finally:
        catalogue.close()
