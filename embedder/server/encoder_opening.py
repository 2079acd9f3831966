"""Opens the encoder that settings name, and checks it before anything is served."""

from __future__ import annotations

import time

import structlog

from embedder.config import ServeSettings
from embedder.encoders.golden import check_golden
from embedder.encoders.load import load_encoder
from embedder.encoders.precision_policy import PrecisionPolicy
from embedder.encoders.tower_encoder import TowerEncoder
from embedder.media.decoding.job import Decoder
from embedder.server.parts import media_limits

_log = structlog.get_logger(__name__)


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
