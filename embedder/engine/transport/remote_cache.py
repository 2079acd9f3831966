"""The cache as front-ends and engines have it: read here, from the files, and written through the keeper."""

from __future__ import annotations

import time
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder.engine.transport.keeper_client import KeeperClient, KeeperRefused
from embedder.engine.transport.keeper_messages import KeeperKind, pack_space
from embedder.errors import EmbedderError, Unavailable
from embedder_cache import AskedAt, CacheStats, Lookup, SpaceKey, VectorCache
from embedder_client.content_hash import HASH_BYTES

_DELETE_TIMEOUT_S = 120.0
_SYNC_TIMEOUT_S = 10.0


class RemoteCache:
    """A cache tier whose writer is another process. Thread-safe."""

    def __init__(self, local: VectorCache, keeper: KeeperClient) -> None:
        """Join the two.

        Args:
            local: the cache's folder, opened for reading.
            keeper: the way to the process that writes it.
        """
        self._local = local
        self._keeper = keeper

    @property
    def path(self) -> Path:
        """The cache's folder."""
        return self._local.path

    def get_many(self, space: SpaceKey, hashes: bytes) -> Lookup:
        """Look n packed content hashes (n * 32 bytes) up, in this process."""
        return self._local.get_many(space, hashes)

    def put_many(
        self,
        space: SpaceKey,
        hashes: bytes,
        vectors: npt.NDArray[np.float16] | npt.NDArray[np.float32],
        *,
        asked_at: AskedAt | None = None,
    ) -> Future[None]:
        """Send (n, dim) vectors to be stored; the future is done when they are committed."""
        count = len(hashes) // HASH_BYTES
        times = np.broadcast_to(np.asarray(time.time() if asked_at is None else asked_at, np.float64), count)
        halves = np.ascontiguousarray(vectors, np.float16)
        return self._keeper.request(KeeperKind.PUT, pack_space(space), hashes, halves.tobytes(), times.tobytes())

    def delete_many(self, space: SpaceKey, hashes: bytes) -> int:
        """Erase contents, and wait until it is done; returns how many were held.

        Raises:
            Unavailable: the keeper is restarting.
        """
        future = self._keeper.request(KeeperKind.DELETE, pack_space(space), hashes)
        return int(_result_of(future, timeout_s=_DELETE_TIMEOUT_S))

    def stats(self) -> CacheStats:
        """Measure the store, and count what happened in all processes of the service."""
        counts = _result_of(self._keeper.request(KeeperKind.SYNC), timeout_s=_SYNC_TIMEOUT_S)
        return replace(self._local.stats(), **counts)

    def counts(self) -> dict[str, int]:
        """Tell what was looked up in this process."""
        return self._local.counts()

    def close(self) -> None:
        """Let go of the files."""
        self._local.close()


def _result_of(future: Future[Any], *, timeout_s: float) -> Any:
    try:
        return future.result(timeout_s)
    except KeeperRefused as error:
        raise EmbedderError(str(error)) from error
    except TimeoutError as error:
        raise Unavailable("the process that writes the cache and the ledger did not answer in time") from error
