"""EmbedStream as both clients promise it."""

from __future__ import annotations

from typing import Any

import grpc
import numpy as np
import pytest

from embedder_client import errors, hash_text
from embedder_client.v1 import content_pb2

TEXTS = [f"text {number}" for number in range(700)]


def test_stream_answers_each_batch_in_order_and_splits_large_ones(server: Any, connect: Any) -> None:
    batches = [TEXTS[:2], TEXTS[2:9], [""], TEXTS[9:10]]
    results = list(connect(max_request_items=3, max_requests_in_flight=2).embed_stream(batches, dtype="float32"))
    assert [len(result) for result in results] == [2, 7, 1, 1]
    np.testing.assert_allclose(results[1].vectors, server.rows(*map(hash_text, TEXTS[2:9])), atol=1e-7)
    assert [failure.index for failure in results[2].failures] == [0]
    requests = server.requests("EmbedStreamRequest")
    assert [request.sequence for request in requests] == list(range(6))
    assert {request.request.lane for request in requests} == {content_pb2.LANE_BULK}


def test_stream_takes_no_more_batches_than_may_wait(server: Any, connect: Any) -> None:
    taken = []

    def batches() -> Any:
        for text in TEXTS[:20]:
            taken.append(text)
            yield [text]

    results = connect(max_requests_in_flight=2).embed_stream(batches())
    next(iter(results))
    assert len(taken) <= 3
    results.close()


def test_stream_left_early_ends_its_call(server: Any, client: Any) -> None:
    for result in client.embed_stream([[text] for text in TEXTS]):
        assert len(result) == 1
        break
    assert len(client.embed(["still answered"])) == 1


def test_error_of_the_callers_batches_passes_through_a_stream(client: Any) -> None:
    def batches() -> Any:
        yield ["a"]
        raise KeyError("the caller's own")

    with pytest.raises(KeyError, match="the caller's own"):
        list(client.embed_stream(batches()))


def test_stream_that_ends_too_early_is_an_error(server: Any, client: Any) -> None:
    server.scripts["EmbedStream"] = lambda requests, context: iter(())
    with pytest.raises(errors.Internal, match="ended the stream"):
        list(client.embed_stream([["a"]]))


def test_stream_fails_with_the_services_error(server: Any, client: Any) -> None:
    def refuse(requests: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.NOT_FOUND, "no such space")

    server.scripts["EmbedStream"] = refuse
    for _ in range(10):  # The refusal races with the writing of requests.
        with pytest.raises(errors.NotFound, match="no such space"):
            list(client.embed_stream([[text] for text in TEXTS[:50]], space="nowhere"))


def test_stream_answer_that_does_not_come_is_a_deadline(server: Any, client: Any) -> None:
    server.hang_from_now("EmbedStream")
    with pytest.raises(errors.DeadlineExceeded):
        list(client.embed_stream([["a"]], timeout_s=0.2))
