"""Builds what a service consists of from its settings, and takes it down again."""

from __future__ import annotations

import time
from contextlib import ExitStack

import structlog

from embedder.config import ServeSettings
from embedder.encoders.base import Encoder
from embedder.encoders.golden import check_golden
from embedder.encoders.load import load_encoder
from embedder.engine.contents import Lane
from embedder.engine.engine import Engine, EngineSettings
from embedder.engine.warm_up import warm_up
from embedder.errors import ConfigurationError
from embedder.media.limits import MediaLimits
from embedder.savings.ledger import Ledger
from embedder.server.accounting import SpaceAccount
from embedder.server.answer_desk import AnswerDesk
from embedder.server.registry_refresher import RegistryRefresher
from embedder.server.runtime import Runtime
from embedder.server.secrets import load_domain_secret
from embedder.server.spaces import ServedSpace, Spaces
from embedder_cache import CacheError, CacheSettings, Durability, VectorCache, space_key
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_heads import HeadError, HeadRegistry, HeadRuntime
from embedder_heads.generation.model import LanguageModel
from embedder_heads.index.library import IndexLibrary

_log = structlog.get_logger(__name__)


def build_runtime(settings: ServeSettings, stack: ExitStack) -> Runtime:
    """Load the encoder, warm and check it, and open the cache, the heads and the ledger.

    Args:
        stack: closes everything that was opened, in reverse order.
    Raises:
        ConfigurationError: something can't be opened or loaded, or the encoder fails its golden items.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    cache = _open_cache(settings, stack)
    shared = _open_shared_cache(settings, stack)
    ledger = Ledger(settings.ledger_path)
    stack.callback(ledger.close)
    encoder = _load_encoder(settings)
    stack.callback(encoder.close)
    space = space_key(load_domain_secret(settings.data_dir), encoder.info.space_digest, encoder.info.dim)
    engine = Engine(
        encoder,
        cache=cache,
        space=space,
        ledger=SpaceAccount(ledger, space=settings.space),
        settings=_engine_settings(settings),
        shared=shared,
    )
    stack.callback(engine.close)
    warm_up(encoder, engine.cost_model)
    heads, indexes = _open_registries(settings, stack)
    return Runtime(
        settings=settings,
        spaces=Spaces([ServedSpace(settings.space, engine)]),
        cache=cache,
        shared_cache=shared,
        heads=heads,
        indexes=indexes,
        ledger=ledger,
        answers=_open_answer_desk(settings),
    )


def media_limits(settings: ServeSettings) -> MediaLimits:
    """Return the limits of one content."""
    return MediaLimits(
        max_text_bytes=settings.max_text_bytes,
        max_image_bytes=settings.max_image_bytes,
        max_image_pixels=settings.max_image_pixels,
        max_image_side=settings.max_image_side,
    )


def _open_cache(settings: ServeSettings, stack: ExitStack) -> VectorCache:
    chosen = CacheSettings(max_bytes=settings.cache_limit_bytes, durability=Durability(settings.cache_durability))
    try:
        cache = VectorCache.open(settings.cache_path, chosen)
    except (CacheError, OSError) as error:
        raise ConfigurationError(f"the cache in {settings.cache_path} can't be opened: {error}") from error
    stack.callback(cache.close)
    return cache


def _open_shared_cache(settings: ServeSettings, stack: ExitStack) -> ValkeyTier | None:
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


def _open_registries(settings: ServeSettings, stack: ExitStack) -> tuple[HeadRuntime, IndexLibrary]:
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


def _open_answer_desk(settings: ServeSettings) -> AnswerDesk:
    desk = AnswerDesk(settings, None if settings.answer_model == "off" else lambda: _load_language_model(settings))
    if settings.answer_load == "start" and settings.answer_model != "off":
        try:
            desk.load()
        except HeadError as error:
            raise ConfigurationError(str(error)) from error
    return desk


def _load_language_model(settings: ServeSettings) -> LanguageModel:
    from embedder_heads.generation.transformers_model import load_model  # transformers takes a second to import

    return load_model(settings.answer_model, device=settings.device, precision=settings.precision)


def _load_encoder(settings: ServeSettings) -> Encoder:
    start = time.perf_counter()
    encoder = load_encoder(
        settings.model,
        device=settings.device,
        precision=settings.precision,
        limits=media_limits(settings),
        threads=settings.threads,
    )
    info = encoder.info
    report = check_golden(encoder, settings.data_dir / "golden")
    _log.info(
        "encoder ready",
        model=info.model_id,
        numerics=info.numerics,
        device=info.device,
        golden_min_cosine=round(report.min_cosine, 6),
        seconds=round(time.perf_counter() - start, 2),
    )
    return encoder


def _engine_settings(settings: ServeSettings) -> EngineSettings:
    return EngineSettings(
        max_batch_tokens=settings.max_batch_tokens,
        max_batch_images=settings.max_batch_images,
        max_queue_s={Lane.INTERACTIVE: settings.max_queue_ms / 1_000, Lane.BULK: settings.max_bulk_queue_ms / 1_000},
        prepare_threads=settings.prepare_threads,
        limits=media_limits(settings),
    )
