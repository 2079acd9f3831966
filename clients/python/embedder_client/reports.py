"""What GetSavings and the Admin service answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from embedder_client.figures import Figure, Provenance


@dataclass(frozen=True, kw_only=True)
class SavingsRow:
    """Counters and figures of one group; a figure that the service did not give is None."""

    group: str
    contents_asked: int
    contents_unique: Figure | None
    cache_hits: int
    shared_cache_hits: int
    in_flight_hits: int
    encodes: int
    failures: int
    device_time: Figure | None
    head_time: Figure | None
    device_time_unshared: Figure | None
    device_time_saved: Figure | None
    energy: Figure | None
    energy_saved: Figure | None


@dataclass(frozen=True, kw_only=True)
class SavingsReport:
    """What sharing saved in a time range: the total, its groups with the largest saving first, and what it rests on."""

    total: SavingsRow
    rows: tuple[SavingsRow, ...]
    start: datetime | None
    end: datetime | None
    assumptions: tuple[str, ...]


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
