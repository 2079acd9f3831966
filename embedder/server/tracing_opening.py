"""Opens tracing where it is asked for; nothing of OpenTelemetry is imported otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedder.config import ServeSettings
from embedder.errors import ConfigurationError

if TYPE_CHECKING:
    from embedder.telemetry.tracing import Tracing


def open_tracing(settings: ServeSettings) -> Tracing | None:
    """Start tracing, if the settings ask for it; who gets it closes it.

    Raises:
        ConfigurationError: OpenTelemetry is not installed.
    """
    if settings.trace_endpoint is None:
        return None
    try:
        from embedder.telemetry.tracing import exporting_tracing
    except ImportError as error:
        raise ConfigurationError(
            f"trace_endpoint is set, and OpenTelemetry is not installed: pip install 'embedder[otel]' ({error})"
        ) from error
    return exporting_tracing(
        endpoint=settings.trace_endpoint, sample_ratio=settings.trace_sample_ratio, space=settings.space
    )
