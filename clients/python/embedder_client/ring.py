"""The hash ring: which replica is a content's home, and which one is next."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedder_client.content_hash import HASH_BYTES

Hashes = npt.NDArray[np.uint8]

POINTS = 1_024
"""Points of one replica: its share of the contents is then within some percent of the mean; docs/replicas.md has the figures."""
_POINTS_A_DIGEST = hashlib.sha256().digest_size // 8


class HashRing:
    """A ring of 64 bits with points of every replica; a content's home owns the first point at or after the content's own.

    A replica's points depend on its name alone. So whoever comes takes its share from all others, whoever goes leaves its share
    to all others, and nothing else moves.

    Attributes:
        names: the replicas, sorted.

    Source: Karger et al. 1997, consistent hashing; the points of a name are made as in Ketama, with SHA-256.
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Place the replicas; their order does not matter, each name counts once, one at least is needed."""
        self.names = tuple(sorted(set(names)))
        places = np.concatenate([_points_of(name) for name in self.names])  # (replicas * POINTS,)
        order = np.argsort(places, kind="stable")
        self._places = places[order]
        self._owners = np.repeat(np.arange(len(self.names)), POINTS)[order]

    def homes(self, hashes: Hashes) -> npt.NDArray[np.intp]:
        """Return each content's home as a position in `names`.

        Args:
            hashes: (n, 32) uint8, contiguous.
        Returns:
            (n,) intp
        """
        return self._owners[self._first_points(hashes)]

    def spread(self, hashes: Hashes, room: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
        """Return each content's home, or the next on the ring that has room.

        Args:
            hashes: (n, 32) uint8, contiguous.
            room: (replicas,) how many contents each may take, in the order of `names`; together n or more.
        Returns:
            (n,) intp, positions in `names`.
        Source: Mirrokni, Thorup and Zadimoghaddam 2018, consistent hashing with bounded loads.
        """
        homes = self.homes(hashes)
        taken = np.bincount(homes, minlength=len(self.names))
        for crowded in np.flatnonzero(taken > room):
            for row in np.flatnonzero(homes == crowded)[max(0, room[crowded]) :]:
                for follower in self.followers(hashes[row].tobytes()):
                    if taken[follower] < room[follower]:
                        homes[row] = follower
                        taken[follower] += 1
                        taken[crowded] -= 1
                        break
        return homes

    def followers(self, content_hash: bytes) -> list[int]:
        """Return all replicas, as positions in `names`, in the order in which the ring passes them from a content on."""
        (start,) = self._first_points(np.frombuffer(content_hash, np.uint8).reshape(1, HASH_BYTES))
        passed = np.concatenate([self._owners[start:], self._owners[:start]])
        owners, firsts = np.unique(passed, return_index=True)
        found: list[int] = owners[np.argsort(firsts)].tolist()
        return found

    def _first_points(self, hashes: Hashes) -> npt.NDArray[np.intp]:
        # The last 8 bytes: processes of one machine share contents out by the first ones.
        found = np.searchsorted(self._places, hashes.view("<u8")[:, -1])
        return np.where(found == len(self._places), 0, found)


def _points_of(name: str) -> npt.NDArray[np.uint64]:
    encoded = name.encode()
    digests = [
        hashlib.sha256(number.to_bytes(4, "little") + encoded).digest() for number in range(POINTS // _POINTS_A_DIGEST)
    ]
    return np.frombuffer(b"".join(digests), "<u8")
