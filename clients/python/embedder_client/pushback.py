"""How long a refused call waits before it is sent again: as long as the service asks.

gRPC's own retries obey a trailer that not every server can send; the status's RetryInfo says the same everywhere.
"""

from __future__ import annotations

import random
from typing import Any

import grpc

from embedder_client.errors import Overloaded
from embedder_client.rpc_errors import PUSHBACK_KEY, error_from_rpc

_FIRST_WAIT_S = 0.1
_LONGEST_WAIT_S = 2.0


def wait_before_retry_s(error: grpc.RpcError, *, attempt: int, attempts: int, remaining_s: float) -> float | None:
    """Return the seconds until an overloaded service is to be asked again; None when it is not.

    Args:
        error: what the call ended with; only an overload is retried here.
        attempt: how many times the call was sent, from 1.
        attempts: how many times it may be sent.
        remaining_s: until the caller's deadline; a wait beyond it would be for nobody.
    """
    call: Any = error
    meaning = error_from_rpc(error, target="")
    if not isinstance(meaning, Overloaded) or attempt >= attempts:
        return None
    asked: Any = dict(call.trailing_metadata() or ()).get(PUSHBACK_KEY)
    if asked is not None and not str(asked).isdecimal():
        return None  # the service asks for no retry
    if meaning.retry_after_ms is not None:
        wait_s = meaning.retry_after_ms / 1_000
    else:
        wait_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1)) * random.uniform(0.8, 1.2)
    return wait_s if wait_s < remaining_s else None
