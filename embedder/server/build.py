"""Builds what a service consists of from its settings, and takes it down again."""

from __future__ import annotations

from contextlib import ExitStack

from embedder.config import ServeSettings
from embedder.errors import ConfigurationError
from embedder.savings.plan import load_plan
from embedder.server.answer_desk import AnswerDesk
from embedder.server.cache_identity import load_cache_id
from embedder.server.compose import open_uploads
from embedder.server.metering import watch
from embedder.server.parts import (
    open_cache,
    open_ledger,
    open_registries,
    open_shared_cache,
    start_decoder,
    start_video_decoder,
)
from embedder.server.reporting import open_report, start_call_energy
from embedder.server.runtime import Runtime
from embedder.server.space_host import SpaceHost
from embedder.server.space_opening import SharedParts
from embedder.server.space_settings import spaces_of
from embedder.telemetry.observer import ServiceObserver
from embedder_heads import HeadError
from embedder_heads.generation.model import LanguageModel


def build_runtime(settings: ServeSettings, stack: ExitStack, observer: ServiceObserver) -> Runtime:
    """Load the encoders, warm and check them, and open the cache, the heads and the ledger.

    Args:
        stack: closes everything that was opened, in reverse order.
        observer: is told what the engines and the heads do.
    Raises:
        ConfigurationError: something can't be opened or loaded, or an encoder fails its golden items.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    plan = load_plan(settings.savings_file)  # first: a mistake in it should not wait for the encoder
    document = spaces_of(settings)
    cache = open_cache(settings, stack)
    shared = open_shared_cache(settings, stack)
    ledger = open_ledger(settings, stack)
    video_decoder = start_video_decoder(settings, stack)
    decoder = start_decoder(settings, stack)
    heads, indexes, fusions = open_registries(settings, stack)
    parts = SharedParts(settings, cache, shared, ledger, decoder, video_decoder, heads, fusions, observer)
    host = SpaceHost(parts, document)
    stack.callback(host.close)
    first = host.start()
    savings = open_report(plan, ledger, processor=first.processor)
    watch(ledger, first.meter, cache)
    return Runtime(
        settings=settings,
        directory=host,
        cache=cache,
        shared_cache=shared,
        cache_id=load_cache_id(settings.data_dir),
        heads=heads,
        indexes=indexes,
        ledger=ledger,
        savings=savings,
        call_energy=start_call_energy(savings, stack),
        fusions=fusions,
        uploads=open_uploads(settings),
        observer=observer,
        answers=_open_answer_desk(settings),
    )


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
    return load_model(
        settings.answer_model,
        device=settings.device,
        precision=precision,
        unpacked_dir=settings.data_dir / "answer_models",
    )
