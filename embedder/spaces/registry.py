"""The registry of spaces on disk: one file in the data folder, replaced by one rename, written under a lock, read without."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from embedder.errors import SpacesInvalid
from embedder.spaces.document import SpacesDocument, from_json, to_json

REGISTRY_FILE = "spaces.json"

Change = Callable[[SpacesDocument], SpacesDocument]
Signature = tuple[int, int, int] | None


class SpaceRegistry:
    """Reads and changes the registry of one data folder; safe for many processes on one machine."""

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / REGISTRY_FILE

    def read(self) -> SpacesDocument | None:
        """Return what the registry says; None where there is none.

        Raises:
            SpacesInvalid: the file is damaged.
        """
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SpacesInvalid(f"{self.path} can't be read: {error.strerror}") from error
        try:
            given = json.loads(content)
        except ValueError as error:
            raise SpacesInvalid(f"{self.path} is not JSON: {error}") from error
        return from_json(given, where=str(self.path))

    def change(self, change: Change, *, first: SpacesDocument | None = None) -> SpacesDocument:
        """Change the registry: nobody else changes it meanwhile, and readers see the old one or the new one.

        Args:
            change: returns another document; what it raises leaves the registry as it was.
            first: what is changed where there is no registry yet.
        Returns:
            What the registry says now.
        Raises:
            SpacesInvalid: the file is damaged, or there is none and no `first`.
        """
        with self._writing():
            before = self.read() or first
            if before is None:
                raise SpacesInvalid(f"there is no registry of spaces in {self.path.parent}")
            after = change(before)
            if after != before or not self.path.exists():
                after = replace(after, revision=before.revision + 1)
                self._write(after)
        return after

    def signature(self) -> Signature:
        """Return a value that differs after every change; costs one stat."""
        try:
            stat = self.path.stat()
        except OSError:
            return None
        return (stat.st_ino, stat.st_mtime_ns, stat.st_size)

    def _write(self, document: SpacesDocument) -> None:
        draft = self.path.with_name(f".{self.path.name}.draft")
        with draft.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            json.dump(to_json(document), file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
