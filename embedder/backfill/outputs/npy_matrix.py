"""NumPy: one matrix of all rows on disk, written in place, with the ids beside it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from embedder.backfill.manifest import Manifest, write_whole
from embedder.backfill.outputs.output import ShardRows
from embedder.errors import ConfigurationError


class NpyMatrix:
    """A `.npy` file of (rows, dim) float16 in the order of the manifest, zeros for rejects; `FILE.ids.txt` has an id a line.

    Ids are gathered shard by shard in `FILE.ids/` until the job is done; a line end within an id is written as a blank.
    """

    def __init__(self, path: Path, manifest: Manifest, *, dim: int) -> None:
        """Open the matrix, making it where it is not there.

        Raises:
            ConfigurationError: there is a file of that name that is no such matrix.
        """
        self._path, self._shards = path, manifest.shards
        self._ids = path.with_name(path.name + ".ids")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._ids.mkdir(exist_ok=True, mode=0o700)
        shape = (manifest.rows, dim)
        if not path.exists():
            made = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            made.flush()
            path.chmod(0o600)
        try:
            self._matrix = np.lib.format.open_memmap(path, mode="r+")
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"{path} is there and can't be read as a NumPy matrix: {error}") from error
        if self._matrix.shape != shape or self._matrix.dtype != np.float16:
            raise ConfigurationError(
                f"{path} is there and has {self._matrix.shape} {self._matrix.dtype}; {shape} float16 is wanted: give another name"
            )

    def write(self, rows: ShardRows) -> None:
        """Write a shard's rows to their place."""
        first = rows.shard.row_offset
        self._matrix[first : first + rows.shard.rows] = rows.vectors
        self._matrix.flush()
        lines = "".join(" ".join(one.splitlines()) + "\n" for one in rows.ids)
        write_whole(self._ids / f"{rows.shard.number:08d}", lines.encode("utf-8", "replace"))

    def finish(self) -> str:
        """Join the ids."""
        joined = self._path.with_name(self._path.name + ".ids.txt")
        with joined.open("wb") as file:
            for number in range(self._shards):
                file.write((self._ids / f"{number:08d}").read_bytes())
            file.flush()
            os.fsync(file.fileno())
        return f"{self._matrix.shape[0]:,} x {self._matrix.shape[1]} float16 in {self._path}, ids in {joined}"

    def close(self) -> None:
        """Unmap the matrix."""
        del self._matrix
