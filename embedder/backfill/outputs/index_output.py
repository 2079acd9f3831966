"""An index: gathered as a matrix while the job runs, built and published when it is done."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from embedder.backfill.manifest import Manifest
from embedder.backfill.outputs.npy_matrix import NpyMatrix
from embedder.backfill.outputs.output import ShardRows
from embedder.backfill.pinned_space import PinnedSpace
from embedder.errors import ConfigurationError
from embedder_heads import HeadError
from embedder_heads.index.library import IndexLibrary


class IndexOutput:
    """Publishes a FAISS index in the service's folder of indexes; building it takes all vectors in memory, 4 bytes a component."""

    def __init__(
        self, name: str, manifest: Manifest, space: PinnedSpace, *, library: Callable[[], IndexLibrary]
    ) -> None:
        self._name = name
        self._space = space
        self._library = library
        self._is_published = False
        self._folder = manifest.folder / "index"
        self._folder.mkdir(exist_ok=True, mode=0o700)
        self._path = self._folder / "vectors.npy"
        self._matrix = NpyMatrix(self._path, manifest, dim=space.dim)

    def write(self, rows: ShardRows) -> None:
        """Write a shard's rows to the matrix."""
        self._matrix.write(rows)

    def finish(self) -> str:
        """Build and publish the index; a row without a vector is left out, and of two rows with one id the later one stays."""
        self._matrix.finish()
        self._matrix.close()
        vectors = np.load(self._path, mmap_mode="r")
        ids = Path(f"{self._path}.ids.txt").read_text().splitlines()
        rows = {one: row for row, one in enumerate(ids)}
        kept = np.array(sorted(row for row in rows.values() if vectors[row].any()), np.int64)
        try:
            manifest = self._library().publish(
                self._name,
                np.asarray(vectors[kept], np.float32),
                [ids[row] for row in kept.tolist()],
                [{}] * len(kept),
                space_digest=bytes.fromhex(self._space.digest),
            )
        except (HeadError, OSError) as error:
            raise ConfigurationError(f"the index {self._name!r} can't be published: {error}") from error
        self._is_published = True
        return f"{manifest.name}@{manifest.version}: {manifest.items:,} items, {manifest.kind}"

    def close(self) -> None:
        """Remove what was gathered, once the index is published and the job is noted as done."""
        if self._is_published:
            shutil.rmtree(self._folder, ignore_errors=True)
