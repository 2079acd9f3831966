"""Tombstones: what was erased lately, so that a vector computed before does not come back after."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from embedder_cache.key import PREFIX_BYTES, key_list
from embedder_cache.tier import AskedAt

_LIFETIME_S = 3600.0  # no encoding takes as long


class Tombstones:
    """Erased keys and prefixes with their times, for an hour each; used by the writer thread only."""

    def __init__(self) -> None:
        self._erased: dict[bytes, float] = {}
        self._next_pruning = 0.0

    def add(self, names: Iterable[bytes]) -> None:
        """Note stored keys (48 bytes) or prefixes (16 bytes) as erased now."""
        now = time.time()
        self._prune(now)
        self._erased.update(dict.fromkeys(names, now))

    def spare(self, keys: npt.NDArray[np.uint8], *, asked_at: AskedAt) -> npt.NDArray[np.bool_]:
        """Say which keys of one prefix were not erased since `asked_at` (seconds since 1970): (n,) bool."""
        if not self._erased or not len(keys):
            return np.ones(len(keys), np.bool_)
        of_prefix = self._erased.get(keys[0, :PREFIX_BYTES].tobytes(), -1.0)
        erased_at = np.array([max(of_prefix, self._erased.get(key, -1.0)) for key in key_list(keys)])
        return np.asarray(erased_at < asked_at, np.bool_)

    def _prune(self, now: float) -> None:
        if now >= self._next_pruning:
            self._next_pruning = now + _LIFETIME_S / 10
            self._erased = {name: at for name, at in self._erased.items() if at > now - _LIFETIME_S}
