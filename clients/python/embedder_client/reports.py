"""What the Admin service answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from embedder_client.figures import Provenance


class SpaceState(StrEnum):
    """How a space is."""

    LOADING = "loading"
    READY = "ready"
    SHADOW = "shadow"
    SERVING = "serving"
    REFUSED = "refused"
    RETIRED = "retired"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True, kw_only=True)
class SpaceInfo:
    """One embedding space that is served."""

    name: str
    provenance: Provenance
    dim: int
    modalities: tuple[str, ...]
    max_tokens: int
    device: str
    identity: Mapping[str, str]
    state: SpaceState = SpaceState.UNSPECIFIED


@dataclass(frozen=True)
class UnservedSpace:
    """A space that is known and not served: still loading, refused for a reason, or being closed."""

    name: str
    state: SpaceState
    reason: str = ""


@dataclass(frozen=True)
class SpaceList:
    """The spaces that are served, the default one first, the aliases by name, and the spaces that are not served."""

    spaces: tuple[SpaceInfo, ...]
    aliases: Mapping[str, str]
    unserved: tuple[UnservedSpace, ...] = ()


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
