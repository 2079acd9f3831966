"""The cache's settings, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedder_cache.errors import CacheRequestError

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


class Durability(StrEnum):
    """What an acknowledged put survives.

    FULL: a killed process and a loss of power. KILL_SAFE: a killed process; a loss of power may take the last commits
    back, and never leaves a wrong vector.
    """

    FULL = "full"
    KILL_SAFE = "kill-safe"


@dataclass(frozen=True)
class CacheSettings:
    """How a cache behaves; every process that opens it may choose its own, and the writer's bound it.

    Attributes:
        max_bytes: limit of all files together, in bytes; the oldest generation is dropped before it is passed.
        generations: how many generations share the limit; more of them follow recency closer and cost reads more.
        time_to_live_s: a vector older than this is a miss; 0 keeps vectors until there is no room.
        durability: what an acknowledged put survives.
        max_queue_bytes: how many bytes may wait for their commit before a put is refused.
        max_commit_entries: how many entries one commit takes at most.
        reader_check_interval_s: how often the slots of dead reader processes are freed.
        max_readers: how many threads of all processes may read at once.
        max_copy_fraction: the part of a generation that survives, where it was asked for, when its turn to go has come.
        sample_rate: the part of all keys whose accesses are kept for `embedder-cache advise`; 0 keeps none.
    """

    max_bytes: int = 16 * GIBIBYTE
    generations: int = 6
    time_to_live_s: int = 0
    durability: Durability = Durability.KILL_SAFE
    max_queue_bytes: int = 64 * MEBIBYTE
    max_commit_entries: int = 4096
    reader_check_interval_s: float = 30.0
    max_readers: int = 1024
    max_copy_fraction: float = 0.5
    sample_rate: float = 1 / 64

    def __post_init__(self) -> None:
        if self.max_bytes < 4 * MEBIBYTE:
            raise CacheRequestError(f"max_bytes={self.max_bytes} is below {4 * MEBIBYTE}")
        if not 2 <= self.generations <= 64:
            raise CacheRequestError(f"generations={self.generations} is outside 2 to 64")
        if self.time_to_live_s < 0:
            raise CacheRequestError(f"time_to_live_s={self.time_to_live_s} is negative")
        if not 0 <= self.max_copy_fraction <= 0.9:
            raise CacheRequestError(f"max_copy_fraction={self.max_copy_fraction} is outside 0 to 0.9")
        if not 0 <= self.sample_rate <= 1:
            raise CacheRequestError(f"sample_rate={self.sample_rate} is outside 0 to 1")
        for name in ("max_queue_bytes", "max_commit_entries", "max_readers", "reader_check_interval_s"):
            if getattr(self, name) <= 0:
                raise CacheRequestError(f"{name}={getattr(self, name)} is not positive")
