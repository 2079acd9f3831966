"""The parts of a service that are opened alike whichever process has them; none needs the model."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack

from embedder.config import ServeSettings
from embedder.engine.contents import Lane
from embedder.engine.engine import EngineSettings
from embedder.errors import ConfigurationError
from embedder.media.decoding.job import Decoder, InlineDecoder
from embedder.media.decoding.pool import DecodePool
from embedder.media.decoding.routed import RoutedDecoder
from embedder.media.limits import MediaLimits
from embedder.savings.ledger import Ledger
from embedder.savings.retention import Retention
from embedder.savings.schema import LedgerVersionError
from embedder.server.registry_refresher import RegistryRefresher
from embedder_cache import CacheError, CacheSettings, Durability, VectorCache
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_heads import HeadError, HeadRegistry, HeadRuntime
from embedder_heads.fusion.library import FusionLibrary
from embedder_heads.index.library import IndexLibrary


def media_limits(settings: ServeSettings) -> MediaLimits:
    """Return the limits of one content."""
    return MediaLimits(
        max_text_bytes=settings.max_text_bytes,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side=settings.max_image_side,
        max_image_scans=settings.max_image_scans,
        max_decode_memory_bytes=settings.max_decode_memory_bytes,
        max_decode_cpu_ms=settings.max_decode_cpu_ms,
        max_decode_ms=settings.max_decode_ms,
        max_video_bytes=settings.max_video_bytes,
        max_video_pixels=settings.max_video_pixels,
        max_video_seconds=settings.max_video_seconds,
        max_video_frames=settings.max_video_frames,
        max_video_sampled_frames=settings.max_video_sampled_frames,
        max_video_cpu_ms=settings.max_video_cpu_ms,
        max_video_ms=settings.max_video_ms,
        max_video_memory_bytes=settings.max_video_memory_bytes,
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


def open_registries(settings: ServeSettings, stack: ExitStack) -> tuple[HeadRuntime, IndexLibrary, FusionLibrary]:
    """Open the heads, indexes and fusions, and pick up what is published from now on."""
    try:
        heads = HeadRuntime(HeadRegistry(settings.heads_path))
        indexes = IndexLibrary(settings.indexes_path)
        fusions = FusionLibrary(settings.fusions_path)
    except (HeadError, OSError) as error:
        raise ConfigurationError(f"the heads, indexes or fusions can't be opened: {error}") from error
    refresher = RegistryRefresher(heads, indexes, fusions)
    refresher.start()
    stack.callback(refresher.stop)
    return heads, indexes, fusions


def engine_settings(settings: ServeSettings) -> EngineSettings:
    """Return how the engine schedules."""
    return EngineSettings(
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_images=settings.max_batch_images,
        max_queue_s={Lane.INTERACTIVE: settings.max_queue_ms / 1_000, Lane.BULK: settings.max_bulk_queue_ms / 1_000},
        prepare_threads=settings.prepare_threads,
        decode_threads=settings.decode_workers or settings.prepare_threads,
        limits=media_limits(settings),
    )


def open_ledger(settings: ServeSettings, stack: ExitStack) -> Ledger:
    """Open the savings ledger as its one writer."""
    retention = Retention(
        minute_days=settings.ledger_minute_days,
        hour_days=settings.ledger_hour_days,
        keep_days=settings.ledger_keep_days,
    )
    try:
        ledger = Ledger(settings.ledger_path, retention=retention)
    except (LedgerVersionError, sqlite3.Error, OSError) as error:
        raise ConfigurationError(f"the savings ledger {settings.ledger_path} can't be opened: {error}") from error
    stack.callback(ledger.close)
    return ledger


def start_decoder(settings: ServeSettings, stack: ExitStack) -> Decoder:
    """Start the processes that decode images; they get ready while the encoder loads."""
    return _start_pool(
        settings,
        stack,
        workers=settings.decode_workers,
        file_bytes=settings.max_image_bytes,
        pixels=settings.max_image_pixels,
    )


def start_video_decoder(settings: ServeSettings, stack: ExitStack) -> Decoder:
    """Start the processes that decode videos: others than those of images, which never wait behind a video."""
    return _start_pool(
        settings,
        stack,
        workers=settings.video_workers,
        file_bytes=settings.max_video_bytes,
        pixels=settings.max_video_pixels,
    )


def _start_pool(settings: ServeSettings, stack: ExitStack, *, workers: int, file_bytes: int, pixels: int) -> Decoder:
    if settings.decode_workers == 0:
        return InlineDecoder()
    try:
        pool = DecodePool(workers=workers, file_bytes=file_bytes, pixel_bytes=3 * pixels)
    except OSError as error:
        raise ConfigurationError(f"{workers} decode workers can't be started: {error}") from error
    stack.callback(pool.close)
    return RoutedDecoder(InlineDecoder(), pool, max_inline_pixels=settings.max_inline_pixels)
