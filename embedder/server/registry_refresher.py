"""Picks up published heads, indexes and fusions twice a second, without a call noticing."""

from __future__ import annotations

import structlog

from embedder.server.periodic import Periodic
from embedder_heads import HeadError, HeadRuntime
from embedder_heads.fusion.library import FusionLibrary
from embedder_heads.index.library import IndexLibrary

_log = structlog.get_logger(__name__)

_INTERVAL_S = 0.5


class RegistryRefresher:
    """Refreshes what is served in a thread of its own; what can't be loaded is logged once, and the old version stays."""

    def __init__(self, heads: HeadRuntime, indexes: IndexLibrary, fusions: FusionLibrary) -> None:
        self._sources: dict[str, HeadRuntime | IndexLibrary | FusionLibrary] = {
            "head": heads,
            "index": indexes,
            "fusion": fusions,
        }
        self._looking = Periodic(self._refresh, pause_s=_INTERVAL_S, name="head-refresher")

    def start(self) -> None:
        """Start looking."""
        self._looking.start()

    def stop(self) -> None:
        """Stop looking."""
        self._looking.stop()

    def _refresh(self) -> None:
        for kind, source in self._sources.items():
            try:
                report = source.refresh()
            except (HeadError, OSError) as error:
                _log.error("registry could not be read", kind=kind, error=str(error))
                continue
            if report.changed:
                _log.info("registry changed", kind=kind)
                for reference, reason in report.refused.items():
                    _log.warning("version refused", kind=kind, version=reference, reason=reason)
