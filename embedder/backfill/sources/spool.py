"""Standard input as a file of a job: what comes by a pipe is kept, so that a killed job can go on without it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_PIECE_BYTES = 1 << 20
_NAME_DIGITS = 16


def spool(stream: BinaryIO, folder: Path, *, on_progress: Callable[[int], None] = lambda size: None) -> Path:
    """Copy JSON lines from a stream into a file, which is there whole or not at all.

    Args:
        stream: read to its end.
        folder: where the file goes; only its owner may read it.
        on_progress: is told of bytes that were kept since it was last told.
    Returns:
        The file, named by its bytes: the same input is the same file, and so the same job.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".{os.getpid()}.part"
    digest = hashlib.sha256()
    with part.open("wb") as file:
        part.chmod(0o600)
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
            on_progress(len(piece))
        file.flush()
        os.fsync(file.fileno())
    path = folder / f"stdin-{digest.hexdigest()[:_NAME_DIGITS]}.jsonl"
    if path.exists():
        part.unlink()
    else:
        part.replace(path)
    return path
