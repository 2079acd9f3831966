"""The record: a 64-byte header and one vector, sealed by a checksum, in whole blocks of 64 bytes.

| bytes | field |
| --- | --- |
| 0 to 47 | the stored key, echoed |
| 48 to 51 | time of the first write, seconds since 1970 |
| 52, 53 | dim |
| 54 | dtype (1: float16) |
| 55 | schema (1); 0 marks an erased or never written record |
| 56 to 63 | checksum over everything else |
| 64 on | the vector, zero-padded to a whole block |

All numbers are little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from embedder_cache.checksum import checksums
from embedder_cache.key import KEY_BYTES

BLOCK_BYTES = 64
HEADER_BYTES = 64
SCHEMA = 1
DTYPE_FLOAT16 = 1

_FLOAT16_BYTES = 2
_TIME_WORD = KEY_BYTES // 4
_KIND_WORD = _TIME_WORD + 1
_SUM_WORD = 7  # in words of 8 bytes
_CHECKSUM = slice(8 * _SUM_WORD, 8 * _SUM_WORD + 8)


@dataclass(frozen=True)
class RecordLayout:
    """Where things stand in the records of one dimension."""

    dim: int

    @cached_property
    def vector_end(self) -> int:
        """The byte after the vector."""
        return HEADER_BYTES + _FLOAT16_BYTES * self.dim

    @cached_property
    def blocks(self) -> int:
        """Blocks of 64 bytes in one record."""
        return -(-self.vector_end // BLOCK_BYTES)

    @cached_property
    def record_bytes(self) -> int:
        """Bytes of one record, padding included."""
        return self.blocks * BLOCK_BYTES

    @cached_property
    def kind(self) -> np.uint32:
        """The header's word of dim, dtype and schema."""
        return np.uint32(self.dim | DTYPE_FLOAT16 << 16 | SCHEMA << 24)

    def seal(
        self, keys: npt.NDArray[np.uint8], vectors: npt.NDArray[np.float16], times: npt.NDArray[np.uint32] | int
    ) -> npt.NDArray[np.uint8]:
        """Build the records of a batch.

        Args:
            keys: (n, 48) uint8.
            vectors: (n, dim) float16.
            times: seconds since 1970, one for all or (n,).
        Returns:
            (n, record_bytes) uint8.
        """
        records = np.zeros((len(keys), self.record_bytes), np.uint8)
        records[:, :KEY_BYTES] = keys
        words = records.view("<u4")
        words[:, _TIME_WORD] = times
        words[:, _KIND_WORD] = self.kind
        records[:, HEADER_BYTES : self.vector_end] = np.ascontiguousarray(vectors, "<f2").view(np.uint8)
        records.view("<u8")[:, _SUM_WORD] = checksums(records, hole=_CHECKSUM)
        return records

    def check(self, records: npt.NDArray[np.uint8], keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """Say which records are whole and belong to their keys.

        Args:
            records: (n, record_bytes) uint8, C-contiguous.
            keys: (n, 48) uint8, what was asked for.
        Returns:
            (n,) bool.
        """
        words = records.view("<u8")
        valid: npt.NDArray[np.bool_] = np.equal(checksums(records, hole=_CHECKSUM), words[:, _SUM_WORD])
        valid &= records.view("<u4")[:, _KIND_WORD] == self.kind
        valid &= (words[:, : KEY_BYTES // 8] == keys.view("<u8")).all(axis=1)
        return valid

    def vectors(self, records: npt.NDArray[np.uint8]) -> npt.NDArray[np.float16]:
        """Copy the vectors out, packed: (n, dim) float16."""
        packed = np.ascontiguousarray(records[:, HEADER_BYTES : self.vector_end])
        return packed.view("<f2")


def record_times(records: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    """Read when each record was first written: (n,) uint32, seconds since 1970."""
    times: npt.NDArray[np.uint32] = records.view("<u4")[:, _TIME_WORD]
    return times


def record_dims(records: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Read each header's dim, unchecked: (n,) int64, 0 for records that were never written."""
    dims: npt.NDArray[np.int64] = (records.view("<u4")[:, _KIND_WORD] & 0xFFFF).astype(np.int64)
    return dims


def is_written(records: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Say which records hold anything at all, whole or damaged: (n,) bool; erased ones are zero throughout."""
    return np.asarray(records[:, HEADER_BYTES - 16 : HEADER_BYTES].any(axis=1), np.bool_)
