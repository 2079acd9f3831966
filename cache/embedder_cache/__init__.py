"""A content-addressed, crash-safe, bounded cache of vectors.

from embedder_cache import CacheSettings, VectorCache, space_key
from embedder_client.content_hash import hash_texts

space = space_key(tenant_secret, space_digest, dim=384)
with VectorCache.open("cache", CacheSettings(max_bytes=8 << 30)) as cache:
    cache.put_many(space, hash_texts(texts), vectors).result()
    lookup = cache.get_many(space, hash_texts(texts))  # lookup.vectors (n, 384) float16, lookup.found (n,) bool
"""

from embedder_cache.errors import (
    CacheBackpressure,
    CacheClosed,
    CacheDamaged,
    CacheError,
    CacheForked,
    CacheLocked,
    CacheReadOnly,
    CacheRequestError,
    CacheWriteFailed,
    TierUnavailable,
)
from embedder_cache.key import SpaceKey, domain_id, space_key
from embedder_cache.settings import CacheSettings, Durability
from embedder_cache.stats import CacheStats, GenerationStats
from embedder_cache.store import VectorCache
from embedder_cache.tier import AskedAt, CacheTier, Lookup

__all__ = [
    "AskedAt",
    "CacheBackpressure",
    "CacheClosed",
    "CacheDamaged",
    "CacheError",
    "CacheForked",
    "CacheLocked",
    "CacheReadOnly",
    "CacheRequestError",
    "CacheSettings",
    "CacheStats",
    "CacheTier",
    "CacheWriteFailed",
    "Durability",
    "GenerationStats",
    "Lookup",
    "SpaceKey",
    "TierUnavailable",
    "VectorCache",
    "domain_id",
    "space_key",
]
