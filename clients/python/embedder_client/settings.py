"""How a client connects, waits and splits: one frozen value."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from embedder_client.errors import InvalidRequest

MIB = 1024 * 1024


def program_name() -> str:
    """Return the running program's name in printable ASCII: the script's, or its package's under `python -m`."""
    path = Path(sys.argv[0] if sys.argv and sys.argv[0] not in {"", "-c", "-m"} else "python")
    name = path.parent.name if path.stem == "__main__" else path.stem
    return "".join(letter if letter.isascii() and letter.isprintable() else "_" for letter in name) or "python"


@dataclass(frozen=True, kw_only=True)
class ClientSettings:
    """How a client connects, waits and splits.

    Raises:
        InvalidRequest: a value is out of range.
    """

    client_name: str = field(default_factory=program_name)
    """Who asks, for the savings report; the program's name by default."""
    tenant: str = ""
    """Team or customer that is charged in the savings report; empty means "default". It separates no cache and proves nothing."""
    bearer_token: str = field(default="", repr=False)
    """Sent with every call; refused over plaintext to another machine unless `plaintext_token` is set."""
    plaintext_token: bool = False
    """Allow the token over plaintext to another machine, such as inside an encrypted mesh."""
    tls: bool = False
    """Encrypt, and check the service's certificate; implied by `tls_root_certificates`."""
    tls_root_certificates: bytes | None = None
    """PEM of the authorities to trust; None means gRPC's own list."""
    timeout_s: float = 10.0
    """Default time for an interactive call, for each part that it is split into."""
    bulk_timeout_s: float = 120.0
    """Default time for a call in the bulk lane, for each part; and for one answer of a stream."""
    max_request_bytes: int = 3 * MIB
    """Split so that a message stays under this; one larger content travels alone."""
    max_request_items: int = 256
    """Split so that a message holds no more items than this."""
    upload_over_bytes: int = 8 * MIB
    """A larger image or video is looked up by its hash first, and if it is not known, sent piece by piece."""
    max_requests_in_flight: int = 4
    """Parts of one call, or batches of one stream, that wait for their answers together."""
    max_send_bytes: int = 32 * MIB
    """Largest message that is sent; the service takes 32 MiB by default, and refuses more."""
    max_receive_bytes: int = 64 * MIB
    """Largest answer that is taken; 256 vectors of 16,384 float32 dimensions are 16 MiB."""
    retry_attempts: int = 5
    """Attempts in all when the service is unavailable or overloaded, 1 to 5 (gRPC's own maximum); 1 means no retry.
    With `locality`, an attempt at an unavailable service is a round of all replicas."""
    keepalive_time_s: float = 330.0
    """Ping an idle connection of a waiting call after this; below 300 s, a server with gRPC's defaults hangs up."""
    health_interval_s: float = 5.0
    """With `locality`, ask each replica this often whether it serves; one that failed a call is asked each second."""
    resolve_interval_s: float = 30.0
    """With `locality`, look the target's names up in DNS this often, and after a failure."""
    max_load_factor: float = 1.25
    """With `locality`, how far a replica may be over the mean of what this client has in flight, once it holds more than 1,024 contents;
    the rest goes to the next on the ring, where it is computed anew unless a shared cache holds it. `math.inf` never moves any."""
    tracer_provider: Any = field(default=None, repr=False)
    """An OpenTelemetry `TracerProvider`: each call is a span, and its trace goes on in the service. None traces nothing."""

    def __post_init__(self) -> None:
        if not self.max_load_factor >= 1:
            raise InvalidRequest(f"max_load_factor={self.max_load_factor} must be 1 or more")
        for name in ("timeout_s", "bulk_timeout_s", "keepalive_time_s", "health_interval_s", "resolve_interval_s"):
            if not getattr(self, name) > 0:
                raise InvalidRequest(f"{name}={getattr(self, name)} must be over 0")
        for name in (
            "max_request_bytes",
            "max_request_items",
            "upload_over_bytes",
            "max_requests_in_flight",
            "max_send_bytes",
            "max_receive_bytes",
        ):
            if getattr(self, name) < 1:
                raise InvalidRequest(f"{name}={getattr(self, name)} must be 1 or more")
        if not 1 <= self.retry_attempts <= 5:
            raise InvalidRequest(f"retry_attempts={self.retry_attempts} must be 1 to 5")
        for name in ("client_name", "tenant", "bearer_token"):
            if not (getattr(self, name).isascii() and getattr(self, name).isprintable()):
                raise InvalidRequest(f"{name} travels as metadata, so it must be printable ASCII")
