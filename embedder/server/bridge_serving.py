"""Lets heads be served over the bridges that the registry of spaces allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import structlog

from embedder.spaces.document import BridgeRow
from embedder_heads import HeadRuntime
from embedder_heads.bridge.library import BridgeLibrary
from embedder_heads.errors import HeadError, HeadInvalid

_log = structlog.get_logger(__name__)


def serve_bridges(heads: HeadRuntime, rows: Sequence[BridgeRow], folder: Path) -> None:
    """Serve heads over these bridges, and over no other; one that can't be loaded is logged and serves none.

    Args:
        heads: what serves.
        rows: what is allowed.
        folder: where the bridges lie.
    """
    library = BridgeLibrary(folder)
    bridges = []
    for row in rows:
        try:
            bridge = library.load(row.name)
            ends = (bridge.manifest.source_digest, bridge.manifest.target_digest)
            if ends != (row.source, row.target):
                raise HeadInvalid(f"it leads from {ends[0][:16]} to {ends[1][:16]}")
            bridges.append(bridge)
        except HeadError as error:
            _log.error("bridge refused", bridge=row.name, reason=str(error))
    heads.serve_bridges(bridges)
