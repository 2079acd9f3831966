"""Parquet: a file for each shard, with vectors as lists of a fixed size, in the order of the rows; `embedder-cache import` takes them."""

from __future__ import annotations

from pathlib import Path

from embedder.backfill.outputs.output import ShardRows
from embedder.backfill.pinned_space import PinnedSpace
from embedder_cache.record_file import RecordSpace, write_record_file


class ParquetParts:
    """A folder of Parquet files: columns `id`, `content_hash` (32 bytes) and `vector` (dim float16); rejects are left out."""

    def __init__(self, folder: Path, space: PinnedSpace, *, has_wholes: bool) -> None:
        """Make the folder.

        Args:
            has_wholes: whether rows may be posts or videos.
        """
        self._folder = folder
        self._space = RecordSpace(digest=space.digest, dim=space.dim, model=space.model, has_wholes=has_wholes)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def write(self, rows: ShardRows) -> None:
        """Write a shard's file, whole or not at all."""
        kept = rows.has_vector
        write_record_file(
            self._folder / f"part-{rows.shard.number:08d}.parquet",
            self._space,
            rows.hashes[kept],
            rows.vectors[kept],
            ids=[one for one, has in zip(rows.ids, kept.tolist(), strict=True) if has],
        )

    def finish(self) -> str:
        """Say where the files are."""
        return f"{len(list(self._folder.glob('part-*.parquet'))):,} Parquet files in {self._folder}"

    def close(self) -> None:
        """Nothing is open between two shards."""
