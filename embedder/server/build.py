"""Builds what a service consists of from its settings, and takes it down again."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack

import structlog

from embedder.config import ServeSettings
from embedder.encoders.base import Encoder
from embedder.encoders.golden import check_golden
from embedder.encoders.load import load_encoder
from embedder.encoders.precision_policy import PrecisionPolicy
from embedder.engine.composite_engine import CompositeEngine, Parts, PostSettings
from embedder.engine.contents import Lane
from embedder.engine.engine import Engine, EngineSettings
from embedder.engine.fusion import MEAN
from embedder.engine.video_encoder import VideoSettings
from embedder.engine.warm_up import warm_up
from embedder.errors import ConfigurationError
from embedder.media.decoding.job import Decoder, InlineDecoder
from embedder.media.decoding.pool import DecodePool
from embedder.media.decoding.routed import RoutedDecoder
from embedder.media.frame_sampling import FrameSampling
from embedder.media.limits import MediaLimits
from embedder.savings.ledger import Ledger
from embedder.savings.plan import load_plan
from embedder.savings.retention import Retention
from embedder.savings.schema import LedgerVersionError
from embedder.server.accounting import SpaceAccount
from embedder.server.answer_desk import AnswerDesk
from embedder.server.metering import open_meter, open_report, watch
from embedder.server.registry_refresher import RegistryRefresher
from embedder.server.runtime import Runtime
from embedder.server.secrets import load_domain_secret
from embedder.server.spaces import ServedSpace, Spaces
from embedder.server.uploads import Uploads
from embedder.telemetry.observer import ServiceObserver
from embedder_cache import CacheError, CacheSettings, Durability, VectorCache, space_key
from embedder_cache.tiered import TieredCache
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_heads import HeadError, HeadRegistry, HeadRuntime
from embedder_heads.fusion.library import FusionLibrary
from embedder_heads.generation.model import LanguageModel
from embedder_heads.index.library import IndexLibrary

_log = structlog.get_logger(__name__)


def build_runtime(settings: ServeSettings, stack: ExitStack, observer: ServiceObserver) -> Runtime:
    """Load the encoder, warm and check it, and open the cache, the heads and the ledger.

    Args:
        stack: closes everything that was opened, in reverse order.
        observer: is told what the engine and the heads do.
    Raises:
        ConfigurationError: something can't be opened or loaded, or the encoder fails its golden items.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    plan = load_plan(settings.savings_file)  # first: a mistake in it should not wait for the encoder
    cache = _open_cache(settings, stack)
    shared = _open_shared_cache(settings, stack)
    ledger = _open_ledger(settings, stack)
    video_decoder = _start_video_decoder(settings, stack)
    encoder = open_encoder(settings, _start_decoder(settings, stack))
    stack.callback(encoder.close)
    savings = open_report(plan, ledger, device=encoder.info.device)
    meter = open_meter(encoder.info.device)
    watch(ledger, meter, cache)
    secret = load_domain_secret(settings.data_dir)
    space = space_key(secret, encoder.info.space_digest, encoder.info.dim)
    engine = Engine(
        encoder,
        cache=cache,
        space=space,
        ledger=SpaceAccount(ledger, space=settings.space),
        settings=_engine_settings(settings),
        meter=meter,
        shared=shared,
        observer=observer.of_space(settings.space),
    )
    stack.callback(engine.close)
    warm_up(encoder, engine.cost_model)
    heads, indexes, fusions = _open_registries(settings, stack)
    parts = Parts(
        encoder=encoder,
        cache=cache,
        every_tier=cache if shared is None else TieredCache(cache, shared),
        decoder=video_decoder,
        fusions=fusions,
        key_of=lambda digest: space_key(secret, digest, encoder.info.dim),
    )
    composite = CompositeEngine(engine, parts, videos=_video_settings(settings), posts=_post_settings(settings))
    stack.callback(composite.close)
    _check_fusion(settings, fusions, encoder.info.space_digest)
    return Runtime(
        settings=settings,
        spaces=Spaces([ServedSpace(settings.space, composite)]),
        cache=cache,
        shared_cache=shared,
        heads=heads,
        indexes=indexes,
        ledger=ledger,
        savings=savings,
        fusions=fusions,
        uploads=Uploads(
            limits=media_limits(settings),
            folder=settings.data_dir,
            max_uploads=settings.max_uploads,
            memory_bytes=settings.upload_memory_bytes,
        ),
        observer=observer,
        answers=_open_answer_desk(settings),
    )


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


def precision_policy(settings: ServeSettings) -> PrecisionPolicy:
    """Return what the settings ask of the numerics."""
    return PrecisionPolicy(
        setting=settings.precision,
        tolerance=settings.precision_tolerance,
        deterministic=settings.deterministic,
        folder=settings.data_dir / "precision",
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


def _open_ledger(settings: ServeSettings, stack: ExitStack) -> Ledger:
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


def _open_registries(settings: ServeSettings, stack: ExitStack) -> tuple[HeadRuntime, IndexLibrary, FusionLibrary]:
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


def _start_decoder(settings: ServeSettings, stack: ExitStack) -> Decoder:
    """Start the processes that decode images; they get ready while the encoder loads."""
    return _start_pool(
        settings,
        stack,
        workers=settings.decode_workers,
        file_bytes=settings.max_image_bytes,
        pixels=settings.max_image_pixels,
    )


def _start_video_decoder(settings: ServeSettings, stack: ExitStack) -> Decoder:
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

    # Quantized spaces say nothing of the answer model, which stays in floating point.
    precision = settings.precision if settings.precision in ("fp32", "bf16", "fp16") else "auto"
    return load_model(settings.answer_model, device=settings.device, precision=precision)


def open_encoder(settings: ServeSettings, decoder: Decoder | None = None) -> Encoder:
    """Load the encoder that the settings name, and check it on its golden items.

    Args:
        decoder: where image files are decoded; None: in the thread that prepares them.
    Raises:
        ConfigurationError: it can't be loaded, or it fails its golden items.
    """
    start = time.perf_counter()
    policy = precision_policy(settings)
    encoder = load_encoder(
        settings.model,
        device=settings.device,
        precision=policy,
        limits=media_limits(settings),
        threads=settings.threads,
        decoder=decoder,
    )
    info = encoder.info
    report = check_golden(encoder, settings.data_dir / "golden", min_cosine=policy.golden_cosine)
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
        decode_threads=settings.decode_workers or settings.prepare_threads,
        limits=media_limits(settings),
    )


def _video_settings(settings: ServeSettings) -> VideoSettings:
    return VideoSettings(
        sampling=FrameSampling(
            settings.video_sampling, settings.video_frames_per_second, settings.video_scene_threshold
        ),
        limits=media_limits(settings),
        workers=settings.video_workers,
        max_waiting=settings.max_waiting_videos,
        segment_s=settings.video_segment_seconds,
    )


def _post_settings(settings: ServeSettings) -> PostSettings:
    return PostSettings(settings.post_fusion, settings.post_field_weights, settings.max_post_fields)


def _check_fusion(settings: ServeSettings, fusions: FusionLibrary, space_digest: bytes) -> None:
    """Say at the start that posts could not be fused, not at the first post."""
    try:
        if settings.post_fusion != MEAN:
            fusions.resolve(settings.post_fusion, space_digest)
    except HeadError as error:
        raise ConfigurationError(f"post_fusion={settings.post_fusion!r} can't be used: {error}") from error
