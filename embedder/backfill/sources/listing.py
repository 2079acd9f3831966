"""Lists the files that a job reads: those given, and those below the folders given, in the order of their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedder.backfill.sources.formats import ROW_FORMATS, is_compressed, medium_of, row_format_of
from embedder.errors import InvalidRequest
from embedder_client.content_hash import Modality


@dataclass(frozen=True, slots=True)
class Listed:
    """One file.

    Attributes:
        path: absolute.
        name: its path below the folder that was given, or its file name.
        format: a format of rows, or the medium of a file that is a content itself.
        bytes: its size.
        mtime_ns: when it was last changed, in nanoseconds since 1970.
    """

    path: str
    name: str
    format: str
    bytes: int
    mtime_ns: int

    @property
    def has_rows(self) -> bool:
        """Whether it is a file of rows."""
        return self.format in ROW_FORMATS


def list_sources(
    given: Sequence[str], *, only: Modality | None, on_left_out: Callable[[Path], None]
) -> Iterator[Listed]:
    """Yield files one by one.

    Args:
        given: absolute paths of files and folders.
        only: take files of media of this kind alone; None takes all kinds.
        on_left_out: is told of each file below a folder that is of no known kind, or of another medium.
    Raises:
        InvalidRequest: a path is not there, or a file that was named is of no known kind.
    """
    for one in map(Path, given):
        if one.is_dir():
            for path in _below(one):
                listed = _listed(path, str(path.relative_to(one)), only)
                if listed is None:
                    on_left_out(path)
                else:
                    yield listed
        elif one.is_file():
            listed = _listed(one, one.name, only)
            if listed is None:
                raise InvalidRequest(_why_not(one, only))
            yield listed
        else:
            raise InvalidRequest(f"{one} is no file and no folder")


def _below(folder: Path) -> Iterator[Path]:
    """Walk a folder in the order of names; hidden files and links to folders are passed over."""
    with os.scandir(folder) as entries:
        found = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _below(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


def _listed(path: Path, name: str, only: Modality | None) -> Listed | None:
    file_format: str | None = row_format_of(path)
    if file_format is None:
        medium = medium_of(path.name)
        if medium is None or (only is not None and medium is not only):
            return None
        file_format = medium.value
    stat = path.stat()
    return Listed(str(path), name, file_format, stat.st_size, stat.st_mtime_ns)


def _why_not(path: Path, only: Modality | None) -> str:
    if is_compressed(path):
        return (
            f"{path} is compressed and can't be read from its middle: unpack it, or pipe JSON lines in "
            "(zcat FILE | embedder-backfill run -)"
        )
    if only is not None and medium_of(path.name) is not None:
        return f"{path} is no {only}"
    return f"{path} is of no known kind; known are {', '.join(ROW_FORMATS)}, images, videos and .txt by their endings"
