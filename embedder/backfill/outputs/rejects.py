"""The rejects: rows without a vector and why, a file for each shard that has any, joined when the job is done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from embedder.backfill.manifest import write_whole
from embedder.backfill.records import Reject

NAME = "rejects.jsonl"


class Rejects:
    """A job's rejects, as JSON lines of `shard`, `row`, `id` and `reason`."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        self._parts = folder / "rejects"

    @property
    def path(self) -> Path:
        """The file that has them all once the job is done."""
        return self._path

    def write(self, shard: int, rejects: Sequence[Reject]) -> None:
        """Write a shard's rejects, in the place of those that it had before."""
        path = self._parts / f"{shard:08d}.jsonl"
        if not rejects:
            path.unlink(missing_ok=True)
            return
        self._parts.mkdir(exist_ok=True, mode=0o700)
        write_whole(path, "".join(json.dumps(asdict(one)) + "\n" for one in rejects).encode())

    def join(self) -> None:
        """Write all of them into one file, whole or not at all; none where there are none."""
        if not self._parts.is_dir():
            self._path.unlink(missing_ok=True)
            return
        part = self._path.with_name(f".{NAME}.part")
        with part.open("wb") as file:
            for path in sorted(self._parts.glob("*.jsonl")):
                file.write(path.read_bytes())
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)

    def rows(self) -> Iterator[int]:
        """Go through the rows that were rejected."""
        if self._parts.is_dir():
            for path in sorted(self._parts.glob("*.jsonl")):
                for line in path.read_text().splitlines():
                    yield json.loads(line)["row"]
