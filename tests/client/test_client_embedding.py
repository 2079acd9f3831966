"""Embed and Lookup as both clients promise them: packing, splitting, merging, failures."""

from __future__ import annotations

import threading
from typing import Any

import grpc
import numpy as np
import pytest

from embedder_client import ContentHash, Image, ItemSource, Post, Text, Video, errors, hash_image, hash_text, hash_texts
from embedder_client.v1 import content_pb2

TEXTS = [f"text {number}" for number in range(700)]


def test_embed_gives_one_row_for_each_content_in_the_order_of_asking(server: Any, client: Any) -> None:
    result = client.embed(["a text", b"an image"], texts=["another"], images=[b"pixels"])
    hashes = [hash_text("a text"), hash_image(b"an image"), hash_text("another"), hash_image(b"pixels")]
    np.testing.assert_allclose(result.float32(), server.rows(*hashes), atol=1e-3)
    assert result.vectors.dtype == np.float16
    assert result.sources == [ItemSource.COMPUTED] * 4
    assert len(result) == 4
    result.raise_for_failures()


def test_every_kind_of_content_travels(server: Any, client: Any) -> None:
    server.held.add(hash_text("seen"))
    contents = [
        Text("t"),
        Image(b"i"),
        Video(b"v"),
        Post({"title": "t", "body": Text("b")}),
        ContentHash(hash_text("seen")),
    ]
    result = client.embed(contents)
    assert not result.failures
    (request,) = server.requests("Embed")
    kinds = [content.WhichOneof("kind") for content in request.contents]
    assert kinds == ["text", "image", "video", "post", "content_hash"]


def test_embed_options_reach_the_service(server: Any, client: Any) -> None:
    client.embed(["x"], space="default@1", dim=8, dtype="int8", lane="bulk", durable=True, task="ranking")
    (request,) = server.requests("Embed")
    assert (request.options.space, request.options.dim, request.options.dtype) == (
        "default@1",
        8,
        content_pb2.DTYPE_INT8,
    )
    assert (request.lane, request.durable, request.task) == (content_pb2.LANE_BULK, True, "ranking")


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-7), ("float16", 1e-3), ("int8", 5e-3)])
def test_numeric_dtypes_come_back_as_the_vectors(server: Any, client: Any, dtype: str, tolerance: float) -> None:
    result = client.embed(["a", "b"], dtype=dtype)
    assert result.vectors.dtype == np.dtype(dtype)
    assert result.vectors.shape == (2, result.dim)
    assert (result.scales is not None) == (dtype == "int8")
    np.testing.assert_allclose(result.float32(), server.rows(hash_text("a"), hash_text("b")), atol=tolerance)


def test_binary_vectors_keep_the_sign_of_each_dimension(server: Any, client: Any) -> None:
    result = client.embed(["a", "b"], dtype="binary")
    assert result.vectors.dtype == np.uint8
    assert result.vectors.shape == (2, result.dim // 8)
    signs = np.sign(server.rows(hash_text("a"), hash_text("b")))
    np.testing.assert_allclose(result.float32(), signs / np.sqrt(result.dim), atol=1e-6)


def test_failed_item_fails_alone_and_says_why(client: Any) -> None:
    result = client.embed(["a", "", "c"])
    (failure,) = result.failures
    assert (failure.index, failure.code, failure.reason) == (1, "INVALID_ARGUMENT", "EMPTY_CONTENT")
    assert failure.metadata == {"given": "0"}
    assert result.sources == [ItemSource.COMPUTED, ItemSource.FAILED, ItemSource.COMPUTED]
    assert not result.vectors[1].any()
    assert result.vectors[2].any()


def test_raise_for_failures_raises_one_error_for_each_failed_item(client: Any) -> None:
    result = client.embed(["", "b", ""])
    with pytest.raises(errors.ItemsFailed, match="2 of 3 items failed") as caught:
        result.raise_for_failures()
    assert isinstance(caught.value, errors.EmbedderClientError)
    failed = [error for error in caught.value.exceptions if isinstance(error, errors.ItemFailed)]
    assert [error.failure.index for error in failed] == [0, 2]
    assert failed[0].details.reason == "EMPTY_CONTENT"


def test_large_input_is_split_by_items_and_merged_in_order(server: Any, client: Any) -> None:
    texts = [*TEXTS[:300], "", *TEXTS[300:]]
    result = client.embed(texts, dtype="float32")
    assert sorted(len(request.contents) for request in server.requests("Embed")) == [189, 256, 256]
    rows = server.rows(*map(hash_text, texts))
    rows[300] = 0
    np.testing.assert_allclose(result.vectors, rows, atol=1e-7)
    assert [failure.index for failure in result.failures] == [300]
    assert result.cost.device_time.value == pytest.approx(0.75)
    assert result.cost.device_time_saved.basis == "estimated"
    assert result.cost.energy is None
    assert result.cost.timings.total_s == pytest.approx(0.25)


@pytest.mark.parametrize("dtype", ["int8", "binary"])
def test_split_int8_and_binary_vectors_merge(server: Any, connect: Any, dtype: str) -> None:
    whole = connect().embed(TEXTS[:20], dtype=dtype)
    split = connect(max_request_items=7).embed(TEXTS[:20], dtype=dtype)
    np.testing.assert_array_equal(split.vectors, whole.vectors)
    np.testing.assert_array_equal(split.float32(), whole.float32())


def test_large_input_is_split_by_bytes(server: Any, connect: Any) -> None:
    images = [bytes([number]) * 1000 for number in range(10)]
    result = connect(max_request_bytes=2500).embed(images=images, dtype="float32")
    assert [len(request.contents) for request in server.requests("Embed")] == [2] * 5
    assert max(request.ByteSize() for request in server.requests("Embed")) <= 2500
    np.testing.assert_allclose(result.vectors, server.rows(*map(hash_image, images)), atol=1e-7)


def test_parts_in_flight_are_bounded(server: Any, connect: Any) -> None:
    release = threading.Event()

    def wait(request: Any, context: Any) -> Any:
        # The third call would be here while the first two wait, were there no bound.
        assert release.wait(0.2) or len(server.calls) <= 2
        release.set()
        return server.honest("Embed", request, context)

    server.scripts["Embed"] = wait
    assert len(connect(max_request_items=1, max_requests_in_flight=2).embed(TEXTS[:40])) == 40


def test_failure_of_one_part_fails_the_call(server: Any, connect: Any) -> None:
    def refuse_third(request: Any, context: Any) -> Any:
        if request.contents[0].text == TEXTS[2]:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")
        return server.honest("Embed", request, context)

    server.scripts["Embed"] = refuse_third
    with pytest.raises(errors.FailedPrecondition, match="not now"):
        connect(max_request_items=1).embed(TEXTS[:10])


def test_space_that_changes_between_parts_fails_the_call(server: Any, connect: Any) -> None:
    def drift(request: Any, context: Any) -> Any:
        answer = server.honest("Embed", request, context)
        answer.provenance.space_digest = hash_text(request.contents[0].text)
        return answer

    server.scripts["Embed"] = drift
    with pytest.raises(errors.FailedPrecondition, match="the space changed") as caught:
        connect(max_request_items=1).embed(["a", "b"])
    assert caught.value.details.reason == "SPACE_CHANGED"


def test_by_hash_sends_only_what_is_wanted(server: Any, client: Any) -> None:
    server.held.update([hash_text("a"), hash_text("c")])
    result = client.embed(["a", "b", "c", ""], by_hash=True, dtype="float32", task="ranking")
    (embed,) = server.requests("Embed")
    assert [content.text for content in embed.contents] == ["b", ""]
    assert embed.task == server.requests("Lookup")[0].task == "ranking"
    assert result.sources == [ItemSource.CACHE, ItemSource.COMPUTED, ItemSource.CACHE, ItemSource.FAILED]
    assert [failure.index for failure in result.failures] == [3]
    np.testing.assert_allclose(result.vectors[:3], server.rows(*map(hash_text, "abc")), atol=1e-7)
    assert result.cost.device_time.value == pytest.approx(0.375)


def test_by_hash_sends_no_content_when_all_is_held(server: Any, connect: Any) -> None:
    server.held.update(map(hash_text, TEXTS[:10]))
    result = connect(max_request_items=4).embed(TEXTS[:10], by_hash=True, dtype="int8")
    assert not server.requests("Embed")
    assert len(server.requests("Lookup")) == 3
    assert result.sources == [ItemSource.CACHE] * 10
    np.testing.assert_allclose(result.float32(), server.rows(*map(hash_text, TEXTS[:10])), atol=5e-3)


def test_by_hash_fills_the_gaps_of_a_split_look_up(server: Any, connect: Any) -> None:
    server.held.update(map(hash_text, TEXTS[:20:2]))
    result = connect(max_request_items=3).embed(TEXTS[:20], by_hash=True, dtype="int8")
    assert result.sources == [ItemSource.CACHE, ItemSource.COMPUTED] * 10
    np.testing.assert_allclose(result.float32(), server.rows(*map(hash_text, TEXTS[:20])), atol=5e-3)


def test_lookup_says_what_is_wanted(server: Any, connect: Any) -> None:
    server.held.update(map(hash_text, TEXTS[:10:2]))
    result = connect(max_request_items=4).lookup(hash_texts(TEXTS[:10]), dtype="float32")
    assert result.wanted == [1, 3, 5, 7, 9]
    assert result.found.tolist() == [True, False] * 5
    np.testing.assert_allclose(result.vectors[::2], server.rows(*map(hash_text, TEXTS[:10:2])), atol=1e-7)
    assert not result.vectors[1::2].any()
