"""Parquet: spaces out of the cache and into it, one file for each space."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_cache.catalogue import SpaceRow
from embedder_cache.errors import CacheBackpressure, CacheRequestError
from embedder_cache.key import PREFIX_BYTES, SpaceKey
from embedder_cache.record import RecordLayout, record_times
from embedder_cache.store import VectorCache
from embedder_cache.walking import whole_records
from embedder_client.content_hash import HASH_BYTES

_METADATA = b"embedder_cache"
_FORMAT = 1
_BATCH = 4096

Progress = Callable[[int], None]


def export_space(cache: VectorCache, prefix: bytes, file: Path, *, note_progress: Progress = lambda count: None) -> int:
    """Write a space's whole entries into a Parquet file.

    Columns: `content_hash` (32 bytes), `written` (seconds since 1970, UTC) and `vector` (dim float16). The space's row of
    the catalogue stands in the file's metadata. An entry that is in two generations is written once.

    Args:
        cache: the cache; it may be open elsewhere for writing.
        prefix: the space's, 16 bytes.
        file: the file, which is replaced.
        note_progress: told how many entries were examined since it was last told.
    Returns:
        How many entries were written.
    Raises:
        CacheRequestError: the catalogue does not know the space.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = cache.spaces().get(prefix)
    if row is None:
        raise CacheRequestError("the catalogue knows no such space")
    described = json.dumps({"format": _FORMAT, "prefix": prefix.hex(), **asdict(row)}).encode()
    schema = pa.schema(
        [
            ("content_hash", pa.binary(HASH_BYTES)),
            ("written", pa.timestamp("s", tz="UTC")),
            ("vector", pa.list_(pa.float16(), row.dim)),
        ],
        metadata={_METADATA: described},
    )
    file.touch(mode=0o600)
    file.chmod(0o600)  # vectors tell what they were made from
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for hashes, times, vectors in _space_entries(cache, prefix, row.dim, note_progress):
            writer.write_batch(
                pa.record_batch(
                    [
                        pa.FixedSizeBinaryArray.from_buffers(
                            schema.field(0).type, len(hashes), [None, pa.py_buffer(hashes)]
                        ),
                        pa.array(times.astype(np.int64), schema.field(1).type),
                        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), row.dim),
                    ],
                    schema=schema,
                )
            )
            count += len(hashes)
    return count


def _space_entries(
    cache: VectorCache, prefix: bytes, dim: int, note_progress: Progress
) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint32], npt.NDArray[np.float16]]]:
    """Yield content hashes (m, 32), times (m,) and vectors (m, dim) of a space, each entry from its newest generation."""
    generations = cache.generations()
    for age, generation in enumerate(generations):
        for keys, blocks in generation.index.scan(prefix, batch=_BATCH):
            note_progress(len(keys))
            first = np.ones(len(keys), np.bool_)
            for newer in generations[:age]:
                first &= newer.index.find(keys) == 0
            for positions, layout, records in whole_records(generation, keys[first], blocks[first]):
                if layout.dim == dim:
                    hashes = np.ascontiguousarray(keys[first][positions][:, PREFIX_BYTES:])
                    yield hashes, record_times(records), RecordLayout(dim).vectors(records)


def import_space(cache: VectorCache, file: Path, *, note_progress: Progress = lambda count: None) -> int:
    """Put a Parquet file's entries into the cache under the space that the file names; their age begins anew.

    Args:
        cache: the cache, open for writing.
        file: a file that `export_space` wrote.
        note_progress: told how many entries were committed since it was last told.
    Returns:
        How many entries were put; those that the cache held before keep their vectors.
    Raises:
        CacheRequestError: the file is not one of ours.
        CacheWriteFailed: a batch could not be committed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        source = pq.ParquetFile(file, page_checksum_verification=True)
    except pa.ArrowInvalid as error:
        raise CacheRequestError(f"{file.name} is no Parquet file: {error}") from error
    with source:
        space, row = _read_description(source.schema_arrow.metadata or {}, file.name)
        cache.register_space(space, name=row.name, domain=bytes.fromhex(row.domain), pinned=row.pinned)
        count = 0
        for batch in source.iter_batches(batch_size=_BATCH):
            hashes = b"".join(batch.column("content_hash").to_pylist())
            vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(-1, space.dim)
            _put(cache, space, hashes, vectors)
            count += len(vectors)
            note_progress(len(vectors))
    return count


def _read_description(metadata: dict[bytes, bytes], name: str) -> tuple[SpaceKey, SpaceRow]:
    try:
        described: dict[str, Any] = json.loads(metadata[_METADATA])
        if described.pop("format") != _FORMAT:
            raise ValueError("another format")
        prefix = bytes.fromhex(described.pop("prefix"))
        row = SpaceRow(**described)
        return SpaceKey(prefix, row.dim), row
    except (KeyError, TypeError, ValueError) as error:
        raise CacheRequestError(f"{name} was not written by an export of this cache") from error


def _put(cache: VectorCache, space: SpaceKey, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
    """Put one batch and wait for it, so that at most one is queued."""
    try:
        cache.put_many(space, hashes, vectors).result()
    except CacheBackpressure:
        cache.flush()
        cache.put_many(space, hashes, vectors).result()
