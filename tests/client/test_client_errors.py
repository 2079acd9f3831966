"""Every status becomes its error at one seam, with all that the service said."""

from __future__ import annotations

import inspect
from typing import Any

import grpc
import pytest
from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from embedder_client import ItemFailure, errors
from embedder_client.rpc_errors import code_name, details_from_status

CODES = {
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


def aborting(code: grpc.StatusCode, message: str, *details: Any, **trailers: str) -> Any:
    """A script that refuses with a code, a message, details and trailers."""
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)

    def script(request: Any, context: grpc.ServicerContext) -> Any:
        metadata = [(key.replace("_", "-"), value) for key, value in trailers.items()]
        if details:
            metadata.append(("grpc-status-details-bin", status.SerializeToString()))
        context.set_trailing_metadata(tuple(metadata))
        context.abort(code, message)

    return script


def test_every_status_code_has_an_error() -> None:
    assert CODES.keys() == {code.name for code in grpc.StatusCode} - {"OK"}


@pytest.mark.parametrize("code", CODES)
def test_status_becomes_its_error(server: Any, connect: Any, code: str) -> None:
    server.scripts["Embed"] = aborting(grpc.StatusCode[code], "the reason in words")
    with pytest.raises(errors.EmbedderClientError, match="the reason in words") as caught:
        connect(retry_attempts=1).embed(["a"])
    assert type(caught.value) is CODES[code]
    assert caught.value.details.code == code
    assert isinstance(caught.value.__cause__, grpc.RpcError)


def test_details_of_a_status_are_read_from_its_trailer(server: Any, client: Any) -> None:
    info = error_details_pb2.ErrorInfo(reason="DIM_TOO_LARGE", domain="embedder.v1", metadata={"limit": "384"})
    violation = error_details_pb2.BadRequest.FieldViolation(field="options.dim", description="over 384")
    bad_request = error_details_pb2.BadRequest(field_violations=[violation])
    unknown = duration_pb2.Duration(seconds=1)
    server.scripts["Embed"] = aborting(grpc.StatusCode.INVALID_ARGUMENT, "dim=900", unknown, info, bad_request)
    with pytest.raises(errors.InvalidRequest) as caught:
        client.embed(["a"], dim=900)
    details = caught.value.details
    assert (details.reason, details.domain, details.metadata) == ("DIM_TOO_LARGE", "embedder.v1", {"limit": "384"})
    assert details.field_violations == {"options.dim": "over 384"}


def test_overload_says_when_to_come_back_from_retry_info(server: Any, connect: Any) -> None:
    retry = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=250_000_000))
    server.scripts["Embed"] = aborting(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", retry)
    with pytest.raises(errors.Overloaded) as caught:
        connect(retry_attempts=1).embed(["a"])
    assert caught.value.retry_after_ms == 250


def test_overload_without_a_word_on_when_says_none(server: Any, connect: Any) -> None:
    server.scripts["Embed"] = aborting(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy")
    with pytest.raises(errors.Overloaded) as caught:
        connect(retry_attempts=1).embed(["a"])
    assert caught.value.retry_after_ms is None


def test_garbled_details_leave_code_and_message(server: Any, client: Any) -> None:
    def script(request: Any, context: grpc.ServicerContext) -> Any:
        context.set_trailing_metadata((("grpc-status-details-bin", b"\xff\xff"), ("grpc-retry-pushback-ms", "soon")))
        context.abort(grpc.StatusCode.NOT_FOUND, "no such space")

    server.scripts["Embed"] = script
    with pytest.raises(errors.NotFound, match="no such space") as caught:
        client.embed(["a"])
    assert caught.value.details.reason == ""


def test_message_over_a_limit_is_an_invalid_request_and_not_overload(connect: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="size limit"):
        connect(max_receive_bytes=64, retry_attempts=1).embed(["a"] * 50)


def test_content_over_the_limit_is_refused_before_anything_is_sent(server: Any, connect: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match=r"content 1 has 10\d\d bytes, over max_send_bytes=1000"):
        connect(max_send_bytes=1000).embed([b"small", b"x" * 1000])
    assert not server.calls


def test_answer_for_another_number_of_items_is_refused(server: Any, client: Any) -> None:
    def lose_one(request: Any, context: Any) -> Any:
        del request.contents[0]
        return server.honest("Embed", request, context)

    server.scripts["Embed"] = lose_one
    with pytest.raises(errors.Internal, match="3 items were asked about, and the service answered for 2"):
        client.embed(["a", "b", "c"])


def test_answer_whose_vectors_and_sources_differ_in_number_is_refused(server: Any, client: Any) -> None:
    def lose_source(request: Any, context: Any) -> Any:
        answer = server.honest("Embed", request, context)
        del answer.sources[0]
        return answer

    server.scripts["Embed"] = lose_source
    with pytest.raises(errors.Internal, match="2 vectors and 1 sources"):
        client.embed(["a", "b"])


def test_source_or_basis_of_a_newer_service_is_unspecified(server: Any, client: Any) -> None:
    def newer(request: Any, context: Any) -> Any:
        answer = server.honest("Embed", request, context)
        answer.sources[0] = 99
        answer.cost.device_time.basis = 99
        return answer

    server.scripts["Embed"] = newer
    result = client.embed(["a"])
    assert (result.sources, result.cost.device_time.basis) == (["unspecified"], "unspecified")


def test_unknown_status_number_of_an_item_is_unknown() -> None:
    assert code_name(5) == "NOT_FOUND"
    assert details_from_status(status_pb2.Status(code=99)).code == "UNKNOWN"


def test_every_error_is_of_one_tree() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, BaseException)]
    assert len(kinds) >= 12
    assert all(issubclass(kind, errors.EmbedderClientError) for kind in kinds)


def test_failures_can_be_taken_apart_with_except_star() -> None:
    failures = [errors.ItemFailed(ItemFailure(index, "NOT_FOUND", "CONTENT_NOT_CACHED", "gone")) for index in (0, 1)]
    seen: list[int] = []
    try:
        raise errors.ItemsFailed("2 of 2 items failed", failures)
    except* errors.ItemFailed as group:
        seen += [error.failure.index for error in group.exceptions if isinstance(error, errors.ItemFailed)]
    assert seen == [0, 1]
    first, rest = errors.ItemsFailed("2 of 2 items failed", failures).split(lambda error: error is failures[0])
    assert isinstance(first, errors.ItemsFailed)
    assert isinstance(rest, errors.ItemsFailed)
