"""Videos through a real service: one encode for each frame that is new, segments with their times, and the moment found."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from typer.testing import CliRunner

from embedder.cli.heads import app
from embedder_client import Client, ClientSettings, ContentHash, Video, VideoFile, hash_video
from embedder_client.v1 import content_pb2, embedding_service_pb2, embedding_service_pb2_grpc
from tests.clips import BIKES, BUNNY, CARPHONE, clip, clip_path, made, plain, remuxed

from .conftest import Running
from .test_embedding import NEIGHBOURS


def encodes(client: Client) -> int:
    return client.savings(group_by="").total.encodes


@pytest.fixture
def uploader(running: Running) -> Iterator[Client]:
    """A client that sends everything over 64 KiB piece by piece."""
    settings = ClientSettings(client_name="tests", retry_attempts=1, timeout_s=60, upload_over_bytes=64 << 10)
    with Client(running.target, settings=settings) as client:
        yield client


def mean(frames: np.ndarray) -> np.ndarray:
    pooled = frames.astype(np.float64).mean(axis=0)
    return pooled / np.linalg.norm(pooled)


def test_a_clip_is_one_encode_a_frame_and_its_vector_the_mean_of_them(client: Client) -> None:
    before = encodes(client)
    result = client.embed([Video(clip(BUNNY))], segment_seconds=1, dtype="float32")
    assert not result.failures
    assert encodes(client) - before == 6
    segments = result.segments[0]
    assert segments.start_s.tolist() == [0, 1, 2, 3, 4, 5]
    assert segments.end_s.tolist() == [1, 2, 3, 4, 5, 5.28]
    assert np.allclose(result.vectors[0], mean(segments.vectors), atol=2e-3)  # a frame a second: segments are frames


def test_the_same_clip_again_or_in_another_container_encodes_nothing(client: Client, tmp_path: Path) -> None:
    first = client.embed([Video(clip(BIKES))], durable=True)
    before = encodes(client)
    again = client.embed([Video(clip(BIKES)), Video(remuxed(clip(BIKES), "matroska", tmp_path))], durable=True)
    assert not again.failures
    assert encodes(client) == before
    assert [str(source) for source in again.sources] == ["cache", "cache"]
    assert np.array_equal(again.vectors[0], first.vectors[0])
    assert np.array_equal(again.vectors[1], first.vectors[0])


def test_a_frame_in_two_clips_is_one_encode(client: Client, tmp_path: Path) -> None:
    shared, other = plain((90, 160, 20), (160, 20, 90))
    before = encodes(client)
    one = made([shared] * 10, tmp_path, container="matroska", codec="ffv1")
    two = made([shared] * 10 + [other] * 10, tmp_path, container="matroska", codec="ffv1")
    client.embed([Video(one)], durable=True)
    assert encodes(client) - before == 1
    client.embed([Video(two)], durable=True)
    assert encodes(client) - before == 2


def test_a_known_video_is_answered_by_its_hash_with_its_segments(client: Client) -> None:
    whole = client.embed([Video(clip(CARPHONE))], segment_seconds=2, durable=True)
    digest = hash_video(clip(CARPHONE))
    assert client.lookup([digest, bytes(32)]).found.tolist() == [True, False]
    known = client.embed([ContentHash(digest), "beside it"], segment_seconds=2)
    assert not known.failures
    assert known.segments[0].end_s.tolist() == [2, 4, 4.004]
    assert np.array_equal(known.segments[0].vectors, whole.segments[0].vectors)
    assert np.array_equal(known.vectors[0], whole.vectors[0])


def test_erased_video_is_gone_with_its_frames(client: Client, tmp_path: Path) -> None:
    video = made(plain((1, 90, 200)), tmp_path)
    client.embed([Video(video)], durable=True)
    assert client.delete([hash_video(video)]) == 1
    assert not client.lookup([hash_video(video)]).found.any()
    before = encodes(client)
    client.embed([Video(video)], durable=True)
    assert encodes(client) - before == 1


BAD = {
    "playlist": (b"#EXTM3U\nhttp://127.0.0.1:9/x.ts", "INVALID_CONTENT", "never opened"),
    "empty": (b"", "INVALID_CONTENT", "MP4, MOV"),
    "truncated": (clip(BIKES)[:200_000], "INVALID_CONTENT", "header"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_video_fails_alone_and_says_why(client: Client, name: str) -> None:
    data, reason, words = BAD[name]
    result = client.embed([*NEIGHBOURS[:20], Video(data), *NEIGHBOURS[20:]])
    assert [failure.index for failure in result.failures] == [20]
    assert result.failures[0].reason == reason
    assert words in result.failures[0].message
    others = np.delete(result.vectors, 20, axis=0).astype(np.float32)
    assert np.allclose(np.linalg.norm(others, axis=1), 1.0, atol=1e-3)


def test_text_query_finds_the_right_clip_and_segment(
    client: Client, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    items = tmp_path / "clips.jsonl"
    rows = [f'{{"id": "{name.partition(".")[0]}", "clip": "{clip_path(name)}"}}' for name in (BUNNY, BIKES, CARPHONE)]
    items.write_text("\n".join(rows))
    folder = str(running.runtime.settings.indexes_path)
    arguments = ["index", "build", str(items), "--name", "moments", "--text", "", "--video", "clip"]
    built = CliRunner().invoke(
        app, [*arguments, "--segment-seconds", "2", "--indexes-dir", folder, "--target", running.target]
    )
    assert built.exit_code == 0, built.output
    running.runtime.indexes.refresh()
    found = client.retrieve("moments", ["people riding bicycles on a street", "a rabbit on a green meadow"], top_k=3)
    best = [hits[0] for hits in found.results]
    assert best[0].metadata["video"] == "bikes"
    assert best[1].metadata["video"] == "bigbuckbunny"
    assert best[0].metadata["end_s"] - best[0].metadata["start_s"] == 2
    # The segment is the one whose own vector is nearest to the query, of all that the clips have.
    query = client.embed(["people riding bicycles on a street"], dtype="float32").vectors[0]
    segments = client.embed([Video(clip(BIKES))], segment_seconds=2, dtype="float32").segments[0]
    nearest = int(np.argmax(segments.vectors @ query))
    assert best[0].metadata["start_s"] == segments.start_s[nearest]


def test_large_video_is_looked_up_before_it_travels(uploader: Client, running: Running, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    noise = made(rng.integers(0, 255, (30, 96, 128, 3), np.uint8), tmp_path, container="matroska", codec="ffv1")
    assert len(noise) > 512 << 10
    path = tmp_path / "noise.mkv"
    path.write_bytes(noise)
    first = uploader.embed(["a text beside it", VideoFile(path)], durable=True)
    assert not first.failures
    assert str(first.sources[1]) == "computed"
    path.unlink()
    path.write_bytes(noise)  # the same bytes in another file
    calls: list[str] = []
    channel = uploader._ways().way(None).connection.methods
    monitored = {name: _noting(calls, name, method) for name, method in channel.items()}
    object.__setattr__(uploader._ways().way(None).connection, "methods", monitored)
    again = uploader.embed(["a text beside it", VideoFile(path)])
    assert sorted(calls) == ["Embed", "Lookup"]  # no EmbedUpload
    assert np.array_equal(again.vectors, first.vectors)


class _Noted:
    def __init__(self, calls: list[str], name: str, method: object) -> None:
        self._calls, self._name, self._method = calls, name, method

    def __call__(self, *arguments: object, **options: object) -> object:
        self._calls.append(self._name)
        return self._method(*arguments, **options)  # type: ignore[operator]


def _noting(calls: list[str], name: str, method: object) -> _Noted:
    return _Noted(calls, name, method)


def _upload(running: Running, *pieces: bytes, size: int, digest: bytes = b"") -> embedding_service_pb2.EmbedResponse:
    header = embedding_service_pb2.UploadHeader(
        medium=embedding_service_pb2.UPLOAD_MEDIUM_VIDEO, size_bytes=size, content_hash=digest
    )
    messages = [embedding_service_pb2.EmbedUploadRequest(header=header)]
    messages += [embedding_service_pb2.EmbedUploadRequest(data=piece) for piece in pieces]
    with grpc.insecure_channel(running.target) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        return stub.EmbedUpload(iter(messages), timeout=60).response


def test_uploaded_video_has_the_vector_of_the_sent_one(client: Client, running: Running) -> None:
    data = clip(CARPHONE)
    pieces = [data[start : start + 100_000] for start in range(0, len(data), 100_000)]
    response = _upload(running, *pieces, size=len(data), digest=hash_video(data))
    assert not response.errors
    sent = client.embed([Video(data)])
    assert np.array_equal(np.frombuffer(response.vectors.data, "<f2"), sent.vectors[0])


@pytest.mark.parametrize(
    ("pieces", "size", "digest", "words"),
    [
        ((b"short",), 100, b"", "5 or more came"),
        ((b"x" * 100, b"y" * 100), 150, b"", "150 bytes"),
        ((b"x" * 10,), 10, bytes(32), "another hash"),
        ((), 1 << 40, b"", "max_video_bytes"),
    ],
)
def test_upload_that_is_not_what_it_says_is_an_error_of_its_item(
    running: Running, pieces: tuple[bytes, ...], size: int, digest: bytes, words: str
) -> None:
    response = _upload(running, *pieces, size=size, digest=digest)
    assert [error.index for error in response.errors] == [0]
    assert words in response.errors[0].status.message
    assert response.sources == [content_pb2.ITEM_SOURCE_FAILED]


def test_upload_without_header_is_refused(running: Running) -> None:
    with grpc.insecure_channel(running.target) as channel:
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.EmbedUpload(iter([embedding_service_pb2.EmbedUploadRequest(data=b"x")]), timeout=60)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
