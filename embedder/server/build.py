"""Builds what a service consists of from its settings, and takes it down again."""

from __future__ import annotations

import time
from contextlib import ExitStack

import structlog

from embedder.config import ServeSettings
from embedder.encoders.golden import check_golden
from embedder.encoders.load import load_encoder
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.engine.engine import Engine
from embedder.engine.warm_up import warm_up
from embedder.savings.ledger import Ledger
from embedder.server.accounting import SpaceAccount
from embedder.server.parts import engine_settings, media_limits, open_cache, open_registries, open_shared_cache
from embedder.server.runtime import Runtime
from embedder.server.secrets import load_domain_secret
from embedder.server.spaces import ServedSpace, Spaces
from embedder_cache import space_key

_log = structlog.get_logger(__name__)


def build_runtime(settings: ServeSettings, stack: ExitStack) -> Runtime:
    """Load the encoder, warm and check it, and open the cache, the heads and the ledger.

    Args:
        stack: closes everything that was opened, in reverse order.
    Raises:
        ConfigurationError: something can't be opened or loaded, or the encoder fails its golden items.
    """
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    cache = open_cache(settings, stack)
    shared = open_shared_cache(settings, stack)
    ledger = Ledger(settings.ledger_path)
    stack.callback(ledger.close)
    encoder = load_served_encoder(settings)
    stack.callback(encoder.close)
    space = space_key(load_domain_secret(settings.data_dir), encoder.info.space_digest, encoder.info.dim)
    engine = Engine(
        encoder,
        cache=cache,
        space=space,
        ledger=SpaceAccount(ledger, space=settings.space),
        settings=engine_settings(settings),
        shared=shared,
    )
    stack.callback(engine.close)
    warm_up(encoder, engine.cost_model)
    heads, indexes = open_registries(settings, stack)
    return Runtime(
        settings=settings,
        spaces=Spaces([ServedSpace(settings.space, engine)]),
        cache=cache,
        shared_cache=shared,
        heads=heads,
        indexes=indexes,
        ledger=ledger,
    )


def load_served_encoder(settings: ServeSettings) -> TowerEncoder:
    """Load the encoder and check it against its golden items.

    Raises:
        ConfigurationError: it can't be loaded, or fails the check.
    """
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
