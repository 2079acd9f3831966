"""The cache's exception tree."""

from __future__ import annotations


class CacheError(Exception):
    """Root of everything that the cache raises on purpose; the message says what was given and what is allowed."""


class CacheRequestError(CacheError, ValueError):
    """An argument does not fit: a length, a dimension, a vector that is not finite."""


class CacheBackpressure(CacheError):
    """More bytes wait to be committed than `max_queue_bytes` allows; drop the write, or wait and put it again."""


class CacheWriteFailed(CacheError):
    """The batch was not committed, most often because the disk is full; reads go on, and a later put may succeed."""


class CacheReadOnly(CacheError):
    """The cache was opened for reading here; another process writes."""


class CacheLocked(CacheError):
    """Another process has the cache open as its writer."""


class CacheForked(CacheError):
    """The cache was opened before a fork; open it again in the child."""


class CacheClosed(CacheError):
    """The cache was closed."""


class CacheDamaged(CacheError):
    """A file of the store can't be read; what it held is treated as missing."""


class TierUnavailable(CacheError):
    """A shared tier did not answer in time, or its circuit breaker is open."""
