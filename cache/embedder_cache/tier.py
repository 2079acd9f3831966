"""The interface that every tier of the cache has, and what a lookup returns."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheRequestError
from embedder_cache.key import SpaceKey

AskedAt = float | npt.NDArray[np.float64]
"""When a put's vectors began to be made, seconds since 1970: one time for all, or (n,) one for each."""


@dataclass(frozen=True)
class Lookup:
    """What the cache holds of a batch.

    Attributes:
        vectors: (n, dim) float16, in the order of the hashes; rows of zeros where nothing was found.
        found: (n,) bool.
        asked_at: when the lookup was made, seconds since 1970; a later `put_many` of what was missing says so, and what
            was erased in between is not stored.
    """

    vectors: npt.NDArray[np.float16]
    found: npt.NDArray[np.bool_]
    asked_at: float = 0.0


class CacheTier(Protocol):
    """A store of vectors under content hashes; the local one and the shared ones are used alike."""

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look n packed content hashes (n * 32 bytes) up; what fails to check out is a miss."""

    def put_many(
        self,
        space: SpaceKey,
        hashes: bytes,
        vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
        *,
        asked_at: AskedAt | None = None,
    ) -> Future[None]:
        """Store (n, dim) vectors; the future is done when the tier keeps its promise about them."""

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Take contents out; returns how many were there."""

    def close(self) -> None:
        """Finish what is queued and let go of everything."""


def as_half_vectors(
    vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32], *, count: int, dim: int
) -> npt.NDArray[np.float16]:
    """Copy vectors as float16, (count, dim), C-contiguous.

    Raises:
        CacheRequestError: the shape is another, or a component is not finite in float16.
    """
    if vectors.shape != (count, dim):
        raise CacheRequestError(f"vectors of shape {vectors.shape}; {count} hashes and dim={dim} were given")
    with np.errstate(over="ignore"):
        halves = np.array(vectors, np.float16, order="C")
    if not np.isfinite(halves).all():
        raise CacheRequestError("a vector is not finite in float16")
    return halves
