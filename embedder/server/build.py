"""Builds what a service consists of from its settings, and takes it down again."""

from __future__ import annotations

import time
from contextlib import ExitStack

import structlog

from embedder.config import ServeSettings
from embedder.encoders.device_clock import device_name
from embedder.encoders.golden import check_golden
from embedder.encoders.load import load_encoder
from embedder.encoders.precision_policy import PrecisionPolicy
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.engine.engine import Engine
from embedder.engine.warm_up import warm_up
from embedder.errors import ConfigurationError
from embedder.media.decoding.job import Decoder
from embedder.savings.plan import load_plan
from embedder.server.accounting import SpaceAccount
from embedder.server.answer_desk import AnswerDesk
from embedder.server.cache_identity import load_cache_id
from embedder.server.compose import open_composites, open_uploads
from embedder.server.metering import open_meter, watch
from embedder.server.parts import (
    engine_settings,
    media_limits,
    open_cache,
    open_ledger,
    open_registries,
    open_shared_cache,
    start_decoder,
    start_video_decoder,
)
from embedder.server.reporting import open_report
from embedder.server.runtime import Runtime
from embedder.server.secrets import load_domain_secret
from embedder.server.spaces import ServedSpace, Spaces
from embedder.telemetry.observer import ServiceObserver
from embedder_cache import space_key
from embedder_heads import HeadError
from embedder_heads.generation.model import LanguageModel

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
    cache = open_cache(settings, stack)
    shared = open_shared_cache(settings, stack)
    ledger = open_ledger(settings, stack)
    video_decoder = start_video_decoder(settings, stack)
    encoder = open_encoder(settings, start_decoder(settings, stack))
    stack.callback(encoder.close)
    savings = open_report(plan, ledger, processor=device_name(encoder.info.device))
    meter = open_meter(encoder.info.device)
    watch(ledger, meter, cache)
    space = space_key(
        load_domain_secret(settings.data_dir, settings.domain_key_file), encoder.info.space_digest, encoder.info.dim
    )
    engine = Engine(
        encoder,
        cache=cache,
        space=space,
        ledger=SpaceAccount(ledger, space=settings.space),
        settings=engine_settings(settings),
        meter=meter,
        shared=shared,
        observer=observer.of_space(settings.space),
    )
    stack.callback(engine.close)
    warm_up(encoder, engine.cost_model)
    heads, indexes, fusions = open_registries(settings, stack)
    composite = open_composites(
        settings, stack, engine, encoder=encoder, cache=cache, shared=shared, decoder=video_decoder, fusions=fusions
    )
    return Runtime(
        settings=settings,
        spaces=Spaces([ServedSpace(settings.space, composite)]),
        cache=cache,
        shared_cache=shared,
        cache_id=load_cache_id(settings.data_dir),
        heads=heads,
        indexes=indexes,
        ledger=ledger,
        savings=savings,
        fusions=fusions,
        uploads=open_uploads(settings),
        observer=observer,
        answers=_open_answer_desk(settings),
    )


def precision_policy(settings: ServeSettings) -> PrecisionPolicy:
    """Return what the settings ask of the numerics."""
    return PrecisionPolicy(
        setting=settings.precision,
        tolerance=settings.precision_tolerance,
        deterministic=settings.deterministic,
        folder=settings.data_dir / "precision",
    )


def open_encoder(settings: ServeSettings, decoder: Decoder | None = None) -> TowerEncoder:
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
