"""How the shared tier is reached."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ValkeySettings:
    """How the shared tier is reached.

    Attributes:
        url: `valkey://host:port/db`, `valkeys://...` (TLS), the same with `redis`, or `unix:///path`; a Valkey cluster as
            `valkey+cluster://host:port,host:port` (`valkeys+cluster`), of which one node that answers is enough to find the others.
        max_wait_ms: how long a lookup waits for a server before it is a miss.
        erase_wait_ms: how long an erasure waits; it must be done, or be known not to be.
        time_to_live_s: how long the server keeps a record.
        tombstone_s: how long an erased content is kept from coming back by a writer in flight.
        max_queue_bytes: how many bytes of puts may wait for the servers.
        max_failures: failed calls in a row after which a server is left alone.
        min_retry_s: for how long at first.
        max_retry_s: and at most.
    """

    url: str
    max_wait_ms: int = 20
    erase_wait_ms: int = 2000
    time_to_live_s: int = 7 * 24 * 3600
    tombstone_s: int = 3600
    max_queue_bytes: int = 32 << 20
    max_failures: int = 3
    min_retry_s: float = 0.5
    max_retry_s: float = 30.0
