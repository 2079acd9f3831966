"""Language models unpacked from GGUF once and kept as safetensors, which load in a second where unpacking takes most of a minute."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Raised when what is kept changes.
_VERSION = 1

Parts = tuple[Any, Any]
"""A model and its tokenizer, as transformers loads them."""


class UnpackedModels:
    """A folder of unpacked models, each under the digest of its file; processes may share it."""

    def __init__(self, root: Path) -> None:
        """Keep models under a folder, which is made when the first one is kept."""
        self._root = root

    def load(
        self, gguf: Path, dtype: str, *, unpack: Callable[[], Parts], open_folder: Callable[[Path], Parts]
    ) -> Parts:
        """Load a model, unpacking it only if that was not done before.

        Args:
            gguf: the packed file.
            dtype: of the unpacked weights, such as `bfloat16`.
            unpack: reads the packed file.
            open_folder: reads a folder that transformers wrote.
        """
        folder = self._root / f"{_digest(gguf)[:32]}-{dtype}-{_VERSION}"
        if folder.is_dir():
            try:
                return open_folder(folder)
            except (OSError, ValueError, KeyError, RuntimeError):  # damaged: it is unpacked anew
                shutil.rmtree(folder, ignore_errors=True)
        parts = unpack()
        self._keep(parts, folder)
        return parts

    def _keep(self, parts: Parts, folder: Path) -> None:
        """Write a model beside its place and rename it, so that a half-written one is never read. A full disk costs time alone."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=self._root))
        except OSError:
            return
        try:
            for part in parts:
                part.save_pretrained(unfinished)
            unfinished.rename(folder)
        except (
            OSError,
            ValueError,
        ):  # another process was first, the disk is full, or transformers does not write such a model
            shutil.rmtree(unfinished, ignore_errors=True)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
