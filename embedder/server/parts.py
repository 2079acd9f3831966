"""The parts of a service that are opened alike whichever process has them; none needs the model."""

from __future__ import annotations

from contextlib import ExitStack

from embedder.config import ServeSettings
from embedder.engine.contents import Lane
from embedder.engine.engine import EngineSettings
from embedder.errors import ConfigurationError
from embedder.media.limits import MediaLimits
from embedder.server.registry_refresher import RegistryRefresher
from embedder_cache import CacheError, CacheSettings, Durability, VectorCache
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_heads import HeadError, HeadRegistry, HeadRuntime
from embedder_heads.index.library import IndexLibrary


def media_limits(settings: ServeSettings) -> MediaLimits:
    """Return the limits of one content."""
    return MediaLimits(
        max_text_bytes=settings.max_text_bytes,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side=settings.max_image_side,
    )


def open_cache(settings: ServeSettings, stack: ExitStack) -> VectorCache:
    """Open the cache as its one writer."""
    return _open_cache(settings, stack, read_only=False)


def open_cache_for_reading(settings: ServeSettings, stack: ExitStack) -> VectorCache:
    """Open the cache that another process writes."""
    return _open_cache(settings, stack, read_only=True)


def _open_cache(settings: ServeSettings, stack: ExitStack, *, read_only: bool) -> VectorCache:
    chosen = CacheSettings(max_bytes=settings.cache_limit_bytes, durability=Durability(settings.cache_durability))
    try:
        cache = VectorCache.open(settings.cache_path, chosen, read_only=read_only)
    except (CacheError, OSError) as error:
        raise ConfigurationError(f"the cache in {settings.cache_path} can't be opened: {error}") from error
    stack.callback(cache.close)
    return cache


def open_shared_cache(settings: ServeSettings, stack: ExitStack) -> ValkeyTier | None:
    """Open the tier that several machines share, if there is one."""
    if settings.shared_cache_url is None:
        return None
    url = settings.shared_cache_url.get_secret_value()
    try:
        tier = ValkeyTier(ValkeySettings(url, max_wait_ms=settings.shared_cache_wait_ms))
    except CacheError as error:
        raise ConfigurationError(f"shared_cache_url can't be used: {error}") from error
    except ImportError as error:
        raise ConfigurationError("shared_cache_url needs the package redis: pip install 'embedder[valkey]'") from error
    stack.callback(tier.close)
    return tier


def open_registries(settings: ServeSettings, stack: ExitStack) -> tuple[HeadRuntime, IndexLibrary]:
    """Open the heads and indexes, and pick up what is published from now on."""
    try:
        heads = HeadRuntime(HeadRegistry(settings.heads_path))
        indexes = IndexLibrary(settings.indexes_path)
    except (HeadError, OSError) as error:
        raise ConfigurationError(f"the heads or indexes can't be opened: {error}") from error
    refresher = RegistryRefresher(heads, indexes)
    refresher.start()
    stack.callback(refresher.stop)
    return heads, indexes


def engine_settings(settings: ServeSettings) -> EngineSettings:
    """Return how the engine schedules."""
    return EngineSettings(
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_images=settings.max_batch_images,
        max_queue_s={Lane.INTERACTIVE: settings.max_queue_ms / 1_000, Lane.BULK: settings.max_bulk_queue_ms / 1_000},
        prepare_threads=settings.prepare_threads,
        limits=media_limits(settings),
    )
