"""What a call used, as the ledger counts it: values that can be sent from any process to the one that writes."""

from __future__ import annotations

from dataclasses import dataclass, fields

DEFAULT_TENANT = "default"


@dataclass(frozen=True, slots=True)
class Group:
    """Whom usage is counted for.

    Attributes:
        task: what the work is for.
        client: the program that asked, by its own name.
        space: the embedding space.
        lane: `interactive` or `bulk`.
        tenant: the team or customer that is charged, by the caller's word; it separates no cache.
        head: the head or index that was asked, several joined by `+`, of very many the first and a count; empty for vectors alone.
    """

    task: str
    client: str
    space: str
    lane: str
    tenant: str = DEFAULT_TENANT
    head: str = ""


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
        device_ns: device nanoseconds of the encodes, measured: on a processor, CPU time of all cores together.
        head_ns: nanoseconds of heads, measured.
        unshared_ns: device nanoseconds had every item been encoded for its task alone, estimated.
        lookups: contents that were looked up: once a call, however many heads it names.
        lookup_ns: wall nanoseconds of those look-ups, measured.
        wall_ns: wall nanoseconds of the encodes, waiting for cores counted in, measured.
        energy_uj: microjoules of the encodes above idle; the run's meter says whether measured or estimated.
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
    lookups: int = 0
    lookup_ns: int = 0
    wall_ns: int = 0
    energy_uj: int = 0

    @property
    def computed(self) -> int:
        """Asks whose answer was computed for them: neither held, joined nor failed."""
        return self.asked - self.cache_hits - self.shared_cache_hits - self.in_flight_hits - self.failures

    def __add__(self, other: Counts) -> Counts:
        """Add counter by counter."""
        return Counts(*[getattr(self, name) + getattr(other, name) for name in COUNTERS])


COUNTERS = tuple(field.name for field in fields(Counts))
DIMENSIONS = tuple(field.name for field in fields(Group))


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """One entry for the ledger; plain values, so that it can be pickled to the process that writes.

    Attributes:
        second: Unix time.
        group: whom it is counted for.
        counts: what was used.
        hashes: content hashes that were asked for, packed, 32 bytes each; they count as distinct contents.
    """

    second: int
    group: Group
    counts: Counts
    hashes: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Which part of the ledger is meant; an empty name means all of them.

    Attributes:
        start: first second, Unix time, to the minute.
        end: Unix time after the last second; None means now.
    """

    start: int = 0
    end: int | None = None
    task: str = ""
    client: str = ""
    space: str = ""
    lane: str = ""
    tenant: str = ""
    head: str = ""
