"""What a call used, as the ledger counts it."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Group:
    """Whom usage is counted for."""

    task: str
    client: str
    space: str
    lane: str


@dataclass(frozen=True, slots=True)
class Counts:
    """Counters of one group over some time; integers, so that groups add up to totals to the last digit.

    Attributes:
        asked: times that a task asked for a content.
        cache_hits: answered by the cache.
        shared_cache_hits: answered by a cache tier that several machines share.
        in_flight_hits: answered by a computation that was under way.
        encodes: contents computed on the device.
        failures: items that failed.
        device_ns: device nanoseconds of the encodes, measured.
        head_ns: nanoseconds of heads, measured.
        unshared_ns: device nanoseconds had every item been encoded for its task alone, estimated.
    """

    asked: int = 0
    cache_hits: int = 0
    shared_cache_hits: int = 0
    in_flight_hits: int = 0
    encodes: int = 0
    failures: int = 0
    device_ns: int = 0
    head_ns: int = 0
    unshared_ns: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Add counter by counter."""
        return Counts(*[getattr(self, name) + getattr(other, name) for name in COUNTERS])


COUNTERS = tuple(field.name for field in fields(Counts))
