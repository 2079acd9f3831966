"""What the Admin service answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from embedder_client.figures import Provenance


@dataclass(frozen=True, kw_only=True)
class SpaceInfo:
    """One embedding space."""

    name: str
    provenance: Provenance
    dim: int
    modalities: tuple[str, ...]
    max_tokens: int
    device: str
    identity: Mapping[str, str]


@dataclass(frozen=True)
class SpaceList:
    """The spaces, the default one first, and the aliases by name."""

    spaces: tuple[SpaceInfo, ...]
    aliases: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class CacheStats:
    """The cache's state; sizes in bytes, counters since the service started."""

    entries: int
    size_bytes: int
    limit_bytes: int
    hits: int
    misses: int
    corrupt_records: int
    pending_write_bytes: int
    dropped_writes: int
    path: str
    started_at: datetime | None
