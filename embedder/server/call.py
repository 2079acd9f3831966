"""One call as its metadata tells it: who asks, until when, and when the caller goes away."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass

import grpc

from embedder.engine.contents import EmbedOptions, Lane
from embedder.errors import InvalidRequest
from embedder.savings.usage import DEFAULT_TENANT
from embedder_client.v1 import content_pb2

CLIENT_METADATA_KEY = "embedder-client"
TENANT_METADATA_KEY = "embedder-tenant"
# Where the trace of the call that this thread works for goes on; empty for a call that is not traced.
TRACEPARENT: ContextVar[str] = ContextVar("traceparent", default="")
_UNNAMED_CLIENT = "unnamed"
# A call without a deadline has one of centuries, or none, by gRPC's version.
_LONGEST_DEADLINE_S = 86_400.0
_NAME = re.compile(r"[\w.:/@ +-]{1,128}")

_LANES: dict[int, Lane] = {
    content_pb2.LANE_UNSPECIFIED: Lane.INTERACTIVE,
    content_pb2.LANE_INTERACTIVE: Lane.INTERACTIVE,
    content_pb2.LANE_BULK: Lane.BULK,
}


@dataclass(frozen=True, slots=True)
class Call:
    """What every service method knows of its call.

    Attributes:
        client: the caller's name for itself, for the savings ledger; it proves nothing.
        tenant: whom the caller says is charged, for the savings ledger; it proves nothing and separates nothing.
        started_at: `time.monotonic()` seconds of the call's arrival.
        deadline: `time.monotonic()` seconds after which nobody waits.
    """

    client: str
    tenant: str
    started_at: float
    deadline: float

    @classmethod
    def of(cls, context: grpc.ServicerContext, *, default_deadline_s: float) -> Call:
        """Read a call's metadata and deadline."""
        return cls.of_metadata(
            dict(context.invocation_metadata()), context.time_remaining(), default_deadline_s=default_deadline_s
        )

    @classmethod
    def of_metadata(
        cls, metadata: Mapping[str, str | bytes], remaining: float | None, *, default_deadline_s: float
    ) -> Call:
        """Read a call's metadata and the seconds until its deadline, if it has one."""
        now = time.monotonic()
        return cls(
            client=_name(metadata.get(CLIENT_METADATA_KEY) or _UNNAMED_CLIENT, "metadata 'embedder-client'"),
            tenant=_name(metadata.get(TENANT_METADATA_KEY) or DEFAULT_TENANT, "metadata 'embedder-tenant'"),
            started_at=now,
            deadline=now + (default_deadline_s if remaining is None or remaining > _LONGEST_DEADLINE_S else remaining),
        )

    def options(self, *, lane: int, task: str, head: str = "", durable: bool = False) -> EmbedOptions:
        """Return how this call's contents are embedded; a call without a task counts for its client."""
        if lane not in _LANES:
            raise InvalidRequest(f"lane={lane}; known are 1 (interactive) and 2 (bulk)")
        return EmbedOptions(
            deadline=self.deadline,
            lane=_LANES[lane],
            durable=durable,
            task=_name(task or self.client, "task"),
            client=self.client,
            tenant=self.tenant,
            head=head,
            traceparent=TRACEPARENT.get(),
        )


def _name(value: str | bytes, what: str) -> str:
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise InvalidRequest(f"{what} has up to 128 letters, digits, spaces and . : / @ + - _; given was {value!r:.160}")
