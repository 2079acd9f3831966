"""Embed and Lookup through a real service: right vectors, and errors that concern their own item alone."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from embedder_client import Client, ContentHash, ItemSource, errors, hash_image, hash_text
from embedder_client.v1 import content_pb2, embedding_service_pb2, embedding_service_pb2_grpc

from .conftest import Running
from .pictures import as_file, bomb, photo, rotated_by_exif, sixteen_bit

NEIGHBOURS = [f"a good text, number {number}, that stands beside a bad one" for number in range(63)]


def _cosine(left: np.ndarray, right: np.ndarray) -> float:
    left, right = left.astype(np.float64), right.astype(np.float64)
    return float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))


def test_texts_and_images_share_one_space(client: Client) -> None:
    image = as_file(photo("chelsea"), "PNG")
    result = client.embed(["a photo of a cat", "a photo of a rocket", image])
    assert result.vectors.shape == (3, 384)
    assert not result.failures
    assert _cosine(result.vectors[2], result.vectors[0]) > _cosine(result.vectors[2], result.vectors[1])


def test_vectors_have_length_one(client: Client) -> None:
    norms = np.linalg.norm(client.embed(NEIGHBOURS, dtype="float32").vectors, axis=1)
    assert np.allclose(norms, 1.0, atol=1e-3)


def test_same_content_alone_and_among_63_others_gives_the_same_vector(client: Client, running: Running) -> None:
    text = "the same content gives the same vector, whatever its neighbours in the batch"
    alone = client.embed([text]).vectors[0]
    assert running.runtime.cache.delete_many(running.runtime.spaces.resolve("").engine.space, hash_text(text)) <= 1
    among = client.embed([*NEIGHBOURS[:30], text, *NEIGHBOURS[30:]]).vectors[30]
    assert _cosine(alone, among) >= 0.9999


BAD = {
    "empty text": ("", "INVALID_CONTENT", "empty"),
    "white space": (" \n\t ", "INVALID_CONTENT", "white space"),
    "100,000 tokens": ("token " * 100_000, "LIMIT_EXCEEDED", "max_text_bytes"),
    "truncated JPEG": (as_file(photo(), "JPEG")[:3_000], "INVALID_CONTENT", "truncated"),
    "bomb": (bomb(), "LIMIT_EXCEEDED", "max_image_pixels"),
    "no image": (b"\x00\x01 this is no image", "INVALID_CONTENT", "JPEG, PNG"),
    "empty image": (b"", "INVALID_CONTENT", "JPEG, PNG"),
    "unknown hash": (ContentHash(bytes(range(32))), "CONTENT_NOT_CACHED", "send the content"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_item_fails_alone_and_says_why(client: Client, name: str) -> None:
    content, reason, words = BAD[name]
    result = client.embed([*NEIGHBOURS[:20], content, *NEIGHBOURS[20:]])
    assert [failure.index for failure in result.failures] == [20]
    assert result.failures[0].reason == reason
    assert words in result.failures[0].message
    assert not result.vectors[20].any()
    others = np.delete(result.vectors, 20, axis=0).astype(np.float32)
    assert np.allclose(np.linalg.norm(others, axis=1), 1.0, atol=1e-3)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param(lambda image: as_file(image, "GIF"), id="GIF"),
        pytest.param(lambda image: as_file(image, "WEBP", quality=95), id="WebP"),
        pytest.param(lambda image: as_file(image, "BMP"), id="BMP"),
        pytest.param(lambda image: as_file(image, "TIFF"), id="TIFF"),
        pytest.param(rotated_by_exif, id="EXIF-rotated JPEG"),
        pytest.param(lambda image: as_file(image.convert("RGBA"), "PNG"), id="RGBA"),
        pytest.param(lambda image: as_file(image.convert("CMYK"), "JPEG", quality=95), id="CMYK"),
    ],
)
def test_every_format_gives_the_picture_it_shows(client: Client, file) -> None:  # type: ignore[no-untyped-def]
    image = photo("chelsea")
    reference, other = client.embed([as_file(image, "PNG"), file(image)]).vectors
    assert _cosine(reference, other) > 0.97


def test_sixteen_bit_png_is_scaled_not_clipped(client: Client) -> None:
    image = photo("chelsea")
    eight, sixteen = client.embed([as_file(image.convert("L"), "PNG"), sixteen_bit(image)]).vectors
    assert _cosine(eight, sixteen) > 0.999


def test_dims_and_dtypes_are_derived_from_the_one_vector(client: Client) -> None:
    full = client.embed(["derive me"], dtype="float32").vectors[0]
    short = client.embed(["derive me"], dtype="float32", dim=64)
    assert short.vectors.shape == (1, 64)
    assert _cosine(short.vectors[0], full[:64]) > 0.9999
    assert np.linalg.norm(short.vectors[0]) == pytest.approx(1.0, abs=1e-3)
    int8 = client.embed(["derive me"], dtype="int8")
    assert int8.vectors.dtype == np.int8
    assert _cosine(int8.float32()[0], full) > 0.999
    binary = client.embed(["derive me"], dtype="binary")
    assert binary.vectors.shape == (1, 48)
    assert np.array_equal(np.unpackbits(binary.vectors[0]), (full > 0).astype(np.uint8))
    assert ItemSource.COMPUTED not in {*short.sources, *int8.sources, *binary.sources}


def test_lookup_says_what_is_wanted(client: Client) -> None:
    vector = client.embed(["held by hash"], durable=True).vectors[0]
    found = client.lookup([hash_text("held by hash"), hash_text("never sent"), hash_image(b"never sent")])
    assert found.wanted == [1, 2]
    assert np.array_equal(found.vectors[0], vector)
    assert not found.vectors[1:].any()


def test_stream_answers_in_the_order_of_asking(client: Client) -> None:
    batches = [[f"stream {batch} {item}" for item in range(8)] for batch in range(12)]
    answers = list(client.embed_stream(batches))
    again = [client.embed(batch) for batch in batches]
    assert all(np.array_equal(left.vectors, right.vectors) for left, right in zip(answers, again, strict=True))


def test_cost_and_provenance_come_with_every_answer(client: Client) -> None:
    computed = client.embed(["what does this cost, I wonder"])
    held = client.embed(["what does this cost, I wonder"], durable=True)
    assert computed.cost.device_time is not None
    assert computed.cost.device_time.value > 0
    assert computed.cost.device_time.basis == "measured"
    assert computed.cost.timings.encode_s > 0
    assert held.cost.device_time is not None
    assert held.cost.device_time.value == 0
    assert held.cost.device_time_saved is not None
    assert held.cost.device_time_saved.value > 0
    assert computed.provenance.space == "default@1"
    assert len(computed.provenance.space_digest) == 32


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"space": "other@3"}, errors.NotFound, "other@3"),
        ({"dim": 900}, errors.InvalidRequest, "dim=900 exceeds the encoder's 384"),
        ({"task": "x" * 200}, errors.InvalidRequest, "task"),
    ],
)
def test_bad_call_says_what_was_given_and_what_is_allowed(client: Client, options, error, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=words):
        client.embed(["text"], **options)


def test_calls_over_the_limits_are_refused_as_a_whole(running: Running) -> None:
    with grpc.insecure_channel(running.target, options=[("grpc.max_send_message_length", -1)]) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        many = [content_pb2.Content(text="x")] * 1_025
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(embedding_service_pb2.EmbedRequest(contents=many))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "max_items_per_call" in refused.value.details()
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(embedding_service_pb2.EmbedRequest(contents=[]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        huge = [content_pb2.Content(image=bytes(33 << 20))]
        with pytest.raises(grpc.RpcError) as refused:
            stub.Embed(embedding_service_pb2.EmbedRequest(contents=huge))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        unset = stub.Embed(
            embedding_service_pb2.EmbedRequest(contents=[content_pb2.Content(), content_pb2.Content(text="x")])
        )
        assert [error.index for error in unset.errors] == [0]


def test_reply_tells_the_batch_that_it_waited_for(client: Client) -> None:
    texts = ["a text for the batch's shape", "and another one of another length, so that padding would show"]
    reply = client.embed(texts, durable=True)
    assert reply.cost.batch is not None
    assert reply.cost.batch.items >= 2
    assert reply.cost.batch.units > reply.cost.batch.items
    assert 0 < reply.cost.batch.padding_efficiency <= 1
    assert client.embed(texts).cost.batch is None, "a hit runs no batch"
