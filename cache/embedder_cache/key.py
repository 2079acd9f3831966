"""The stored key: 16 bytes that name a space of one tenant, then the content hash."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from embedder_cache.errors import CacheRequestError
from embedder_client.content_hash import HASH_BYTES

PREFIX_BYTES = 16
KEY_BYTES = PREFIX_BYTES + HASH_BYTES
DIGEST_BYTES = 32
MAX_DIM = 65_535

_KEY_ITEM = f"V{KEY_BYTES}"


@dataclass(frozen=True)
class SpaceKey:
    """One embedding space as one tenant sees it.

    Attributes:
        prefix: 16 bytes, the start of every stored key of this space.
        dim: components of each vector.
    """

    prefix: bytes
    dim: int

    def __post_init__(self) -> None:
        if len(self.prefix) != PREFIX_BYTES:
            raise CacheRequestError(f"a prefix of {len(self.prefix)} bytes; it has {PREFIX_BYTES}")
        if not 1 <= self.dim <= MAX_DIM:
            raise CacheRequestError(f"dim={self.dim} is outside 1 to {MAX_DIM}")


def space_key(domain_secret: bytes, space_digest: bytes, dim: int) -> SpaceKey:
    """Derive the key of a space for one tenant domain.

    Args:
        domain_secret: the tenant's secret, or the shared one where the tenant opted in; not empty.
        space_digest: 32 bytes that name everything which shapes the vector.
        dim: components of each vector.
    Returns:
        The space's key; two domains, or two spaces, never share one.
    Raises:
        CacheRequestError: the secret is empty, the digest is not 32 bytes long, or dim is out of range.
    Source: RFC 2104 (HMAC), with SHA-256, cut to 128 bits.
    """
    if not domain_secret:
        raise CacheRequestError("the domain secret is empty")
    if len(space_digest) != DIGEST_BYTES:
        raise CacheRequestError(f"a space digest of {len(space_digest)} bytes; it has {DIGEST_BYTES}")
    return SpaceKey(hmac.digest(domain_secret, b"space\0" + space_digest, hashlib.sha256)[:PREFIX_BYTES], dim)


def domain_id(domain_secret: bytes) -> bytes:
    """Name a tenant domain by 16 bytes that say nothing of its secret; the catalogue files spaces under it."""
    if not domain_secret:
        raise CacheRequestError("the domain secret is empty")
    return hmac.digest(domain_secret, b"domain\0", hashlib.sha256)[:PREFIX_BYTES]


def count_hashes(hashes: bytes) -> int:
    """Count packed content hashes; raises CacheRequestError when their length is not a multiple of 32."""
    count, rest = divmod(len(hashes), HASH_BYTES)
    if rest:
        raise CacheRequestError(f"{len(hashes)} bytes of packed hashes; each has {HASH_BYTES} bytes")
    return count


def pack_keys(prefix: bytes, hashes: bytes) -> npt.NDArray[np.uint8]:
    """Lay the stored keys of n packed hashes out as (n, 48) uint8."""
    count = count_hashes(hashes)
    keys = np.empty((count, KEY_BYTES), np.uint8)
    keys[:, :PREFIX_BYTES] = np.frombuffer(prefix, np.uint8)
    keys[:, PREFIX_BYTES:] = np.frombuffer(hashes, np.uint8).reshape(count, HASH_BYTES)
    return keys


def key_list(keys: npt.NDArray[np.uint8]) -> list[bytes]:
    """Cut (n, 48) uint8 into n bytes objects; 0.035 us each measured, against 0.085 us for slicing in Python."""
    items: list[bytes] = keys.view(_KEY_ITEM).ravel().tolist()
    return items
