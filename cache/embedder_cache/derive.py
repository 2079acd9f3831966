"""Deriving: shorter and smaller vectors from the stored ones, for a whole batch at once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheRequestError

_INT8_MAX = 127


class VectorDtype(StrEnum):
    """How a vector's components are written.

    FLOAT16 and FLOAT32 are IEEE 754. INT8 is `round(component / scale)`, one scale for each vector. BINARY is one bit
    for each component, set where it is positive, the first component in the highest bit of the first byte.
    """

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT8 = "int8"
    BINARY = "binary"


@dataclass(frozen=True)
class Derived:
    """A batch of derived vectors, little-endian and packed.

    Attributes:
        data: (n, dim) of the type asked for; for BINARY (n, ceil(dim / 8)) uint8.
        scales: (n,) float32 for INT8: component = scale * integer; otherwise None.
        dim: components of each vector.
        dtype: the type asked for.
    """

    data: npt.NDArray[np.generic]
    scales: npt.NDArray[np.float32] | None
    dim: int
    dtype: VectorDtype

    def to_bytes(self) -> bytes:
        """Give the vectors as one packed `bytes`."""
        return self.data.tobytes()


def derive(
    vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
    *,
    dim: int | None = None,
    dtype: VectorDtype | str = VectorDtype.FLOAT16,
) -> Derived:
    """Shorten and re-type a batch.

    A shorter vector is the first `dim` components, scaled to L2 norm 1 again, which keeps its meaning in spaces that
    were trained for it (Matryoshka). Rows of zeros stay zero.

    Args:
        vectors: (n, stored dim) float16 or float32.
        dim: components to keep; all where None.
        dtype: how they are written.
    Returns:
        The derived batch; a view of `vectors` where nothing changes.
    Raises:
        CacheRequestError: `dim` exceeds the stored one, or the type is not known.
    Source: Kusupati et al. 2022 (Matryoshka); symmetric int8 as in Jacob et al. 2018.
    """
    stored_dim = vectors.shape[1]
    wanted = stored_dim if dim is None else dim
    if not 1 <= wanted <= stored_dim:
        raise CacheRequestError(f"dim={wanted} is outside 1 to the stored {stored_dim}")
    try:
        kind = VectorDtype(dtype)
    except ValueError as error:
        raise CacheRequestError(f"dtype={dtype!r} is none of {', '.join(VectorDtype)}") from error
    if wanted < stored_dim:
        vectors = _shorten(vectors, wanted)
    scales = None
    data: npt.NDArray[np.generic]
    match kind:
        case VectorDtype.FLOAT32:
            data = np.ascontiguousarray(vectors, "<f4")
        case VectorDtype.FLOAT16:
            data = np.ascontiguousarray(vectors, "<f2")
        case VectorDtype.INT8:
            data, scales = _quantize(vectors)
        case VectorDtype.BINARY:
            data = np.packbits(vectors > 0, axis=1)  # (n, ceil(dim / 8))
    return Derived(data, scales, wanted, kind)


def restore(derived: Derived) -> npt.NDArray[np.float32]:
    """Give a derived batch back as float32, (n, dim), as near as its type allows; BINARY gives -1 and 1.

    Returns:
        (n, dim) float32, not normalized.
    """
    match derived.dtype:
        case VectorDtype.INT8:
            assert derived.scales is not None
            return derived.data.astype(np.float32) * derived.scales[:, None]
        case VectorDtype.BINARY:
            bits = np.unpackbits(derived.data.view(np.uint8), axis=1, count=derived.dim)
            return bits.astype(np.float32) * 2 - 1
        case _:
            return derived.data.astype(np.float32)


def _shorten(vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32], dim: int) -> npt.NDArray[np.float32]:
    """Keep the first components and scale them to norm 1, in float32 so that it is rounded once."""
    short = vectors[:, :dim].astype(np.float32)
    norms = np.sqrt(np.einsum("ij,ij->i", short, short))
    norms[norms == 0] = 1
    short /= norms[:, None]
    return short


def _quantize(
    vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Write components as int8 with one scale for each vector, its greatest component being 127."""
    wide = vectors.astype(np.float32)
    scales = np.abs(wide).max(axis=1) / np.float32(_INT8_MAX)
    scales[scales == 0] = 1
    wide /= scales[:, None]
    return np.rint(wide).astype(np.int8), scales
