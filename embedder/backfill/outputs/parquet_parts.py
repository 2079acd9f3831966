"""Parquet: a file for each shard, with vectors as lists of a fixed size, in the order of the rows."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from embedder.backfill.outputs.output import ShardRows
from embedder.backfill.pinned_space import PinnedSpace


class ParquetParts:
    """A folder of Parquet files: columns `id`, `content_hash` (32 bytes) and `vector` (dim float16); rejects are left out."""

    def __init__(self, folder: Path, space: PinnedSpace) -> None:
        self._folder = folder
        self._schema = pa.schema(
            [
                ("id", pa.string()),
                ("content_hash", pa.binary(32)),
                ("vector", pa.list_(pa.float16(), space.dim)),
            ],
            metadata={b"embedder_space": space.digest.encode(), b"embedder_model": space.model.encode()},
        )
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, rows: ShardRows) -> None:
        """Write a shard's file, whole or not at all."""
        kept = rows.has_vector
        hashes = rows.hashes[kept]
        batch = pa.record_batch(
            [
                pa.array([one for one, has in zip(rows.ids, kept.tolist(), strict=True) if has], pa.string()),
                pa.FixedSizeBinaryArray.from_buffers(
                    pa.binary(32), len(hashes), [None, pa.py_buffer(hashes.tobytes())]
                ),
                pa.FixedSizeListArray.from_arrays(
                    pa.array(rows.vectors[kept].ravel()), self._schema.field(2).type.list_size
                ),
            ],
            schema=self._schema,
        )
        path = self._folder / f"part-{rows.shard.number:08d}.parquet"
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            part.chmod(0o600)  # vectors tell what they were made from
            with pq.ParquetWriter(file, self._schema, compression="zstd") as writer:
                writer.write_batch(batch)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)

    def finish(self) -> str:
        """Say where the files are."""
        return f"{len(list(self._folder.glob('part-*.parquet'))):,} Parquet files in {self._folder}"

    def close(self) -> None:
        """Nothing is open between two shards."""
