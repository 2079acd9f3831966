"""Packed vectors: the dtypes that travel, and how each is read back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_client.errors import Internal


class Dtype(StrEnum):
    """How the numbers of a vector are stored."""

    FLOAT16 = "float16"
    FLOAT32 = "float32"
    INT8 = "int8"
    BINARY = "binary"


_STORED: dict[Dtype, np.dtype[Any]] = {
    Dtype.FLOAT16: np.dtype("<f2"),
    Dtype.FLOAT32: np.dtype("<f4"),
    Dtype.INT8: np.dtype("i1"),
    Dtype.BINARY: np.dtype("u1"),
}


@dataclass(frozen=True, eq=False)
class PackedVectors:
    """A matrix of vectors as it travelled.

    Attributes:
        stored: (n, dim) float16, float32 or int8; (n, ceil(dim / 8)) uint8 for binary;
            read-only while it is a view of the answer.
        dtype: how the numbers are stored.
        dim: dimensions of a row, before packing.
        scales: (n,) float32 for int8, None otherwise; multiply a row by its scale.
    """

    stored: npt.NDArray[Any]
    dtype: Dtype
    dim: int
    scales: npt.NDArray[np.float32] | None = None

    def float32(self) -> npt.NDArray[np.float32]:
        """Return (n, dim) float32: int8 rows times their scales, binary rows as the unit vector of their signs.

        Rows of failed items are zero, except for binary, where a zero row can't be told from one of all minus signs.
        """
        if self.dtype is Dtype.INT8 and self.scales is not None:
            return self.stored.astype(np.float32) * self.scales[:, None]  # (n, dim)
        if self.dtype is Dtype.BINARY:
            bits = np.unpackbits(self.stored, axis=1, count=self.dim)  # (n, dim)
            return (bits.astype(np.float32) * 2 - 1) / np.float32(np.sqrt(max(self.dim, 1)))
        return self.stored.astype(np.float32, copy=False)


def unpack_vectors(data: bytes, scales: bytes, *, dtype: Dtype, rows: int, dim: int) -> PackedVectors:
    """Read a packed matrix without copying it.

    Args:
        data: rows x bytes per row, row-major, little-endian.
        scales: rows x 4 bytes for int8, empty otherwise.
        dtype: how a number is stored.
        rows: number of rows.
        dim: dimensions of a row.

    Returns:
        Views of `data` and `scales`, read-only.

    Raises:
        Internal: the bytes do not fit the shape.
    """
    columns = (dim + 7) // 8 if dtype is Dtype.BINARY else dim
    expected = rows * columns * _STORED[dtype].itemsize
    if len(data) != expected:
        raise Internal(
            f"{rows} vectors of {dim} {dtype} dimensions take {expected} bytes; the answer holds {len(data)}"
        )
    expected_scales = rows * 4 if dtype is Dtype.INT8 else 0
    if len(scales) != expected_scales:
        raise Internal(f"{rows} {dtype} vectors take {expected_scales} bytes of scales; the answer holds {len(scales)}")
    return PackedVectors(
        stored=np.frombuffer(data, _STORED[dtype]).reshape(rows, columns),
        dtype=dtype,
        dim=dim,
        scales=np.frombuffer(scales, "<f4") if dtype is Dtype.INT8 else None,
    )


def join_vectors(parts: list[PackedVectors]) -> PackedVectors:
    """Stack the matrices of a call's parts; a single one is kept as it is.

    Raises:
        Internal: the parts differ in dtype or dimensions.
    """
    first = parts[0]
    if len(parts) == 1:
        return first
    if any((part.dtype, part.dim) != (first.dtype, first.dim) for part in parts):
        raise Internal("the parts of one call came back in different dtypes or dimensions")
    scales = [part.scales for part in parts if part.scales is not None]
    return PackedVectors(
        stored=np.concatenate([part.stored for part in parts]),
        dtype=first.dtype,
        dim=first.dim,
        scales=np.concatenate(scales) if scales else None,
    )


def take_rows(base: PackedVectors, rows: list[int]) -> PackedVectors:
    """Return the rows of `base` at these positions, in this order."""
    scales = None if base.scales is None else base.scales[rows]
    return PackedVectors(stored=base.stored[rows], dtype=base.dtype, dim=base.dim, scales=scales)
