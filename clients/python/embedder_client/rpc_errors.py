"""The one seam where a gRPC error or a google.rpc.Status becomes an error of ours."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import code_pb2, error_details_pb2, status_pb2

from embedder_client import errors

PUSHBACK_KEY = "grpc-retry-pushback-ms"
STATUS_KEY = "grpc-status-details-bin"

_ERRORS: dict[str, type[errors.EmbedderClientError]] = {
    "UNAVAILABLE": errors.ConnectionFailed,
    "CANCELLED": errors.ConnectionFailed,
    "DEADLINE_EXCEEDED": errors.DeadlineExceeded,
    "RESOURCE_EXHAUSTED": errors.Overloaded,
    "INVALID_ARGUMENT": errors.InvalidRequest,
    "OUT_OF_RANGE": errors.InvalidRequest,
    "NOT_FOUND": errors.NotFound,
    "UNAUTHENTICATED": errors.Unauthenticated,
    "PERMISSION_DENIED": errors.Unauthenticated,
    "FAILED_PRECONDITION": errors.FailedPrecondition,
    "ABORTED": errors.FailedPrecondition,
    "ALREADY_EXISTS": errors.FailedPrecondition,
    "UNIMPLEMENTED": errors.Unimplemented,
    "INTERNAL": errors.Internal,
    "DATA_LOSS": errors.Internal,
    "UNKNOWN": errors.Internal,
}

# gRPC's own words for a message over a limit of either side; it uses the status code that also means overload.
_TOO_LARGE = "message larger than max"


def error_from_rpc(error: grpc.RpcError, *, target: str) -> errors.EmbedderClientError:
    """Return the exception that says what a failed call means; raise it `from` the gRPC error.

    Args:
        error: what a call of either gRPC API raised; it carries code, details and trailing metadata.
        target: where the call went, for the message.
    """
    call: Any = error
    code: str = call.code().name
    message: str = call.details() or code
    trailers: dict[str, Any] = dict(call.trailing_metadata() or ())
    details = _details(code, trailers)
    if code == "RESOURCE_EXHAUSTED" and _TOO_LARGE in message:
        return errors.InvalidRequest(
            f"a message is over the size limit of the client or of {target}: {message}", details
        )
    if code in {"UNAVAILABLE", "CANCELLED"} and not details.reason:
        message = f"no answer from {target}: {message}"
    elif code == "DEADLINE_EXCEEDED":
        message = f"no answer from {target} in time: {message}"
    return _ERRORS.get(code, errors.Internal)(message, details)


def code_name(code: int) -> str:
    """Return the name of a status code; a number that no name is known for as UNKNOWN."""
    if code in code_pb2.Code.values():
        name: str = code_pb2.Code.Name(code)
        return name
    return "UNKNOWN"


def details_from_status(status: status_pb2.Status, *, retry_after_ms: int | None = None) -> errors.ErrorDetails:
    """Read ErrorInfo, BadRequest and RetryInfo out of a status; unknown details are left out.

    Args:
        status: the status of a call or of one item.
        retry_after_ms: what a trailer said; RetryInfo counts where it said nothing.
    """
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    for detail in status.details:
        for message in (info, bad_request, retry):
            if detail.Is(message.DESCRIPTOR):
                detail.Unpack(message)
    if retry_after_ms is None and retry.HasField("retry_delay"):
        retry_after_ms = retry.retry_delay.ToMilliseconds()
    return errors.ErrorDetails(
        code=code_name(status.code),
        reason=info.reason,
        domain=info.domain,
        metadata=dict(info.metadata),
        field_violations={violation.field: violation.description for violation in bad_request.field_violations},
        retry_after_ms=retry_after_ms,
    )


def _details(code: str, trailers: dict[str, Any]) -> errors.ErrorDetails:
    """Read the details that came with a failed call; what does not parse is left out, for the code alone is enough."""
    status = status_pb2.Status()
    try:
        status.ParseFromString(trailers.get(STATUS_KEY, b""))
    except DecodeError:
        status.Clear()
    status.code = code_pb2.Code.Value(code)
    pushback = str(trailers.get(PUSHBACK_KEY, ""))
    return details_from_status(status, retry_after_ms=int(pushback) if pushback.isdecimal() else None)
