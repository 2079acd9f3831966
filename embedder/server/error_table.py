"""The one table from our exceptions to gRPC statuses, and the one seam where an error goes onto the wire."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from embedder import errors
from embedder_cache import errors as cache_errors
from embedder_heads import errors as head_errors

DOMAIN = "embedder.v1"

_Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Row:
    """How one type of error is told: its gRPC code, and its `ErrorInfo.reason`."""

    code: grpc.StatusCode
    reason: str


TABLE: Mapping[type[Exception], Row] = {
    errors.EmbedderError: Row(_Code.INTERNAL, "INTERNAL"),
    errors.InvalidContent: Row(_Code.INVALID_ARGUMENT, "INVALID_CONTENT"),
    errors.LimitExceeded: Row(_Code.INVALID_ARGUMENT, "LIMIT_EXCEEDED"),
    errors.UnsupportedModality: Row(_Code.INVALID_ARGUMENT, "UNSUPPORTED_MODALITY"),
    errors.ContentNotCached: Row(_Code.NOT_FOUND, "CONTENT_NOT_CACHED"),
    errors.InvalidRequest: Row(_Code.INVALID_ARGUMENT, "INVALID_REQUEST"),
    errors.MessageTooLarge: Row(_Code.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"),
    errors.UnknownSpace: Row(_Code.NOT_FOUND, "UNKNOWN_SPACE"),
    errors.SpaceConflict: Row(_Code.FAILED_PRECONDITION, "SPACE_CONFLICT"),
    errors.Unauthenticated: Row(_Code.UNAUTHENTICATED, "UNAUTHENTICATED"),
    errors.NotImplementedYet: Row(_Code.UNIMPLEMENTED, "NOT_IMPLEMENTED_YET"),
    errors.Overloaded: Row(_Code.RESOURCE_EXHAUSTED, "OVERLOADED"),
    errors.StoreFailed: Row(_Code.UNAVAILABLE, "STORE_FAILED"),
    errors.DeadlineExpired: Row(_Code.DEADLINE_EXCEEDED, "DEADLINE_EXPIRED"),
    errors.Unavailable: Row(_Code.UNAVAILABLE, "UNAVAILABLE"),
    errors.EncoderError: Row(_Code.INTERNAL, "ENCODER_FAILED"),
    errors.OutOfDeviceMemory: Row(_Code.RESOURCE_EXHAUSTED, "OUT_OF_DEVICE_MEMORY"),
    errors.NonFiniteVector: Row(_Code.INTERNAL, "NON_FINITE_VECTOR"),
    errors.ConfigurationError: Row(_Code.FAILED_PRECONDITION, "CONFIGURATION"),
    errors.SpacesInvalid: Row(_Code.FAILED_PRECONDITION, "SPACES_INVALID"),
    errors.EncoderLoadError: Row(_Code.FAILED_PRECONDITION, "ENCODER_LOAD"),
    errors.GoldenMismatch: Row(_Code.FAILED_PRECONDITION, "GOLDEN_MISMATCH"),
    cache_errors.CacheError: Row(_Code.INTERNAL, "CACHE_FAILED"),
    cache_errors.CacheRequestError: Row(_Code.INVALID_ARGUMENT, "CACHE_REQUEST"),
    cache_errors.CacheBackpressure: Row(_Code.RESOURCE_EXHAUSTED, "CACHE_BACKPRESSURE"),
    cache_errors.CacheWriteFailed: Row(_Code.UNAVAILABLE, "CACHE_WRITE_FAILED"),
    cache_errors.CacheReadOnly: Row(_Code.FAILED_PRECONDITION, "CACHE_READ_ONLY"),
    cache_errors.CacheLocked: Row(_Code.FAILED_PRECONDITION, "CACHE_LOCKED"),
    cache_errors.CacheForked: Row(_Code.INTERNAL, "CACHE_FORKED"),
    cache_errors.CacheClosed: Row(_Code.UNAVAILABLE, "CACHE_CLOSED"),
    cache_errors.CacheDamaged: Row(_Code.INTERNAL, "CACHE_DAMAGED"),
    cache_errors.TierUnavailable: Row(_Code.UNAVAILABLE, "TIER_UNAVAILABLE"),
    head_errors.HeadError: Row(_Code.INTERNAL, "HEAD_FAILED"),
    head_errors.HeadNameInvalid: Row(_Code.INVALID_ARGUMENT, "HEAD_NAME_INVALID"),
    head_errors.ArtifactNotFound: Row(_Code.NOT_FOUND, "ARTIFACT_NOT_FOUND"),
    head_errors.HeadNotFound: Row(_Code.NOT_FOUND, "HEAD_NOT_FOUND"),
    head_errors.UserNotFound: Row(_Code.NOT_FOUND, "USER_NOT_FOUND"),
    head_errors.IndexNotFound: Row(_Code.NOT_FOUND, "INDEX_NOT_FOUND"),
    head_errors.ArtifactInUse: Row(_Code.FAILED_PRECONDITION, "ARTIFACT_IN_USE"),
    head_errors.HeadInvalid: Row(_Code.FAILED_PRECONDITION, "HEAD_INVALID"),
    head_errors.IndexInvalid: Row(_Code.FAILED_PRECONDITION, "INDEX_INVALID"),
    head_errors.HeadSpaceMismatch: Row(_Code.FAILED_PRECONDITION, "HEAD_SPACE_MISMATCH"),
    head_errors.GeneratorUnavailable: Row(_Code.FAILED_PRECONDITION, "GENERATOR_UNAVAILABLE"),
    head_errors.QueryInvalid: Row(_Code.INVALID_ARGUMENT, "QUERY_INVALID"),
    head_errors.TrainingDataInvalid: Row(_Code.INVALID_ARGUMENT, "TRAINING_DATA_INVALID"),
}

_INTERNAL = Row(_Code.INTERNAL, "INTERNAL")


def row_of(error: Exception) -> Row:
    """Return the table's row for an error: its own type's, or its nearest base's."""
    return next((TABLE[kind] for kind in type(error).__mro__ if kind in TABLE), _INTERNAL)


def to_status(error: Exception) -> status_pb2.Status:
    """Tell an error as `google.rpc.Status`, with ErrorInfo and what else fits in its details."""
    row = row_of(error)
    info = error_details_pb2.ErrorInfo(reason=row.reason, domain=DOMAIN)
    details: list[Message] = [info]
    if isinstance(error, errors.LimitExceeded):
        info.metadata.update({"field": error.field, "limit": str(error.limit), "given": str(error.given)})
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=str(error))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if isinstance(error, errors.EmbedderError) and error.post_field:
        info.metadata["post_field"] = error.post_field
    if isinstance(error, errors.Overloaded):
        delay = duration_pb2.Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    status = status_pb2.Status(code=row.code.value[0], message=message_of(error))
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def message_of(error: Exception) -> str:
    """Return what the caller is told; a defect's own words stay in the log."""
    known = isinstance(error, (errors.EmbedderError, cache_errors.CacheError, head_errors.HeadError))
    return str(error) if known else "internal error; the service's log says more"


class ErrorStatus(grpc.Status):  # type: ignore[misc]  # grpc ships no types
    """How a call ends with an error: code, message and trailers.

    `abort_with_status` takes it; it keeps these trailers and drops any that were set before.
    """

    def __init__(self, error: Exception) -> None:
        status = to_status(error)
        self.code = row_of(error).code
        self.details = status.message
        trailers: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
        if isinstance(error, errors.Overloaded):
            # gRPC's retry engine obeys this trailer and ignores RetryInfo.
            trailers.append(("grpc-retry-pushback-ms", str(error.retry_after_ms)))
        self.trailing_metadata = tuple(trailers)


def abort(context: grpc.ServicerContext, error: Exception) -> NoReturn:
    """End a call with an error."""
    context.abort_with_status(ErrorStatus(error))
    raise AssertionError("abort_with_status always raises")
