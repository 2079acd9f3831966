"""Wholes: where the vectors of posts and videos are kept beside those of their parts."""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder.engine.fusion import Fusion
from embedder.errors import StoreFailed
from embedder_cache import CacheBackpressure, CacheTier, SpaceKey


@dataclass(frozen=True, slots=True)
class Wholes:
    """How a call's posts are fused, and where posts and videos are kept whole.

    Attributes:
        cache: holds them.
        fusion: fuses posts.
        post_space: key range of posts by this fusion; None where they are not kept.
        video_space: key range of videos.
    """

    cache: CacheTier
    fusion: Fusion
    post_space: SpaceKey | None
    video_space: SpaceKey

    @property
    def spaces(self) -> list[SpaceKey]:
        """The key ranges in which a hash alone may name a whole."""
        return [self.video_space, *([self.post_space] if self.post_space is not None else [])]


def store_whole(
    cache: CacheTier, space: SpaceKey, content_hash: bytes, vector: npt.NDArray[np.float16], *, asked_at: float
) -> Future[None]:
    """Store one fused or pooled vector, (dim,); the future fails with StoreFailed where it could not be."""
    try:
        return cache.put_many(space, content_hash, vector[None], asked_at=asked_at)
    except CacheBackpressure as error:
        refused: Future[None] = Future()
        refused.set_exception(StoreFailed(f"the vector was computed and not stored: {error}"))
        return refused
