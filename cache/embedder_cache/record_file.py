"""Record files: vectors that another machine computed, in Parquet, on their way into a cache; they name a space and hold no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheBackpressure, CacheRequestError
from embedder_cache.key import DIGEST_BYTES, SpaceKey, space_key
from embedder_cache.store import VectorCache
from embedder_client.content_hash import HASH_BYTES

METADATA = b"embedder_records"

_FORMAT = 1
_BATCH = 4096
_NORM_TOLERANCE = 0.02  # of float16 components; rows of zeros and of garbage are far outside


@dataclass(frozen=True, kw_only=True)
class RecordSpace:
    """What a record file says of its vectors.

    Attributes:
        digest: the space's 32 bytes in hexadecimal.
        dim: components of a vector.
        model: the encoder, for people.
        has_wholes: whether rows may be posts or videos, whose vectors belong to spaces derived from this one; such a file can be read
            by anyone, and a cache does not take it.
    """

    digest: str
    dim: int
    model: str = ""
    has_wholes: bool = False


def write_record_file(
    path: Path,
    space: RecordSpace,
    hashes: npt.NDArray[np.uint8],
    vectors: npt.NDArray[np.float16],
    *,
    ids: Sequence[str] | None = None,
) -> None:
    """Write a record file, whole or not at all; it survives a loss of power, and only its owner may read it.

    Args:
        path: the file, which is replaced.
        space: what the vectors are.
        hashes: (n, 32) content hashes.
        vectors: (n, dim) of L2 norm 1.
        ids: n ids to write beside them; None writes none.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    named = [] if ids is None else [("id", pa.string())]
    schema = pa.schema(
        [*named, ("content_hash", pa.binary(HASH_BYTES)), ("vector", pa.list_(pa.float16(), space.dim))],
        metadata={METADATA: json.dumps({"format": _FORMAT, **asdict(space)}).encode()},
    )
    packed = np.ascontiguousarray(hashes).tobytes()
    columns = [
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(hashes), [None, pa.py_buffer(packed)]),
        pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(vectors, np.float16).ravel()), space.dim),
    ]
    if ids is not None:
        columns.insert(0, pa.array(ids, pa.string()))
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as file:
        part.chmod(0o600)  # vectors tell what they were made from
        with pq.ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
            writer.write_batch(pa.record_batch(columns, schema=schema))
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_record_space(file: Path) -> RecordSpace | None:
    """Return what a Parquet file says of its vectors; None for one that is no record file.

    Raises:
        CacheRequestError: the file is no Parquet, or its description is not whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        described = (pq.read_schema(file).metadata or {}).get(METADATA)
    except (pa.ArrowInvalid, OSError) as error:
        raise CacheRequestError(f"{file.name} is no Parquet file: {error}") from error
    if described is None:
        return None
    try:
        given: dict[str, Any] = json.loads(described)
        if given.pop("format") != _FORMAT or len(bytes.fromhex(given["digest"])) != DIGEST_BYTES:
            raise ValueError("another format")
        return RecordSpace(**given)
    except (KeyError, TypeError, ValueError) as error:
        raise CacheRequestError(f"{file.name} does not say which space its vectors are of") from error


def import_record_file(
    cache: VectorCache, file: Path, *, domain_secret: bytes, note_progress: Callable[[int], None] = lambda count: None
) -> int:
    """Put a record file's entries into the cache, under the tenant's own key of the space that the file names.

    Args:
        cache: the cache, open for writing.
        file: what `write_record_file` wrote.
        domain_secret: the tenant's.
        note_progress: told how many entries were committed since it was last told.
    Returns:
        How many entries were put; those that the cache held before keep their vectors.
    Raises:
        CacheRequestError: the file is none of ours, holds wholes, has another dim than the cache's space, or fails its checksums.
        CacheWriteFailed: a batch could not be committed.
    """
    import pyarrow.parquet as pq

    space = read_record_space(file)
    if space is None:
        raise CacheRequestError(f"{file.name} is no record file")
    if space.has_wholes:
        raise CacheRequestError(
            f"{file.name} holds posts or videos, whose vectors belong to spaces of their own: import files of texts and images"
        )
    key = space_key(domain_secret, bytes.fromhex(space.digest), space.dim)
    count = 0
    try:
        with pq.ParquetFile(file, page_checksum_verification=True) as source:
            for batch in source.iter_batches(batch_size=_BATCH, columns=["content_hash", "vector"]):
                hashes = b"".join(batch.column("content_hash").to_pylist())
                vectors = batch.column("vector").flatten().to_numpy(zero_copy_only=False).reshape(-1, space.dim)
                _check_unit(vectors, file.name)
                _put(cache, key, hashes, vectors)
                count += len(vectors)
                note_progress(len(vectors))
    except (OSError, ValueError, KeyError, TypeError) as error:  # ArrowInvalid is a ValueError
        raise CacheRequestError(f"{file.name} is damaged; {count} entries before that were put: {error}") from error
    return count


def _check_unit(vectors: npt.NDArray[np.float16], name: str) -> None:
    norms = np.linalg.norm(vectors.astype(np.float32), axis=1)
    if not (np.abs(norms - 1) < _NORM_TOLERANCE).all():
        raise CacheRequestError(f"{name} holds a vector that is not of length 1: it was not made by an encoder")


def _put(cache: VectorCache, key: SpaceKey, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
    """Put one batch and wait for it, so that at most one is queued."""
    try:
        cache.put_many(key, hashes, vectors).result()
    except CacheBackpressure:
        cache.flush()
        cache.put_many(key, hashes, vectors).result()
