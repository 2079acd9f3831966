"""What is large is looked up by its hash first, and travels piece by piece only if it is not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedder_client import (
    ClientSettings,
    Image,
    ItemSource,
    Post,
    Video,
    VideoFile,
    errors,
    hash_image,
    hash_text,
    hash_video,
)
from embedder_client.content_hash import Modality, content_hasher, hash_content, hash_post
from embedder_client.embed_plan import embed

LARGE = ClientSettings().upload_over_bytes + 1
CLIP, PICTURE = bytes(LARGE), b"\x01" * LARGE


def test_unknown_large_content_is_uploaded_among_its_neighbours(server: Any, client: Any) -> None:
    result = client.embed(["before", Video(CLIP), "after", Image(PICTURE)])
    expected = [hash_text("before"), hash_video(CLIP), hash_text("after"), hash_image(PICTURE)]
    np.testing.assert_allclose(result.float32(), server.rows(*expected), atol=1e-3)
    assert result.sources == [ItemSource.COMPUTED] * 4
    assert [header.size_bytes for header in server.requests("Uploaded")] == [LARGE, LARGE]
    (request,) = server.requests("Embed")
    assert [content.text for content in request.contents] == ["before", "after"]


def test_known_large_content_never_travels(server: Any, client: Any, tmp_path: Path) -> None:
    server.held.add(hash_video(CLIP))
    path = tmp_path / "clip.mp4"
    path.write_bytes(CLIP)
    result = client.embed([VideoFile(path), "beside"])
    assert result.sources == [ItemSource.CACHE, ItemSource.COMPUTED]
    np.testing.assert_allclose(result.float32()[0], server.rows(hash_video(CLIP))[0], atol=1e-3)
    assert not server.requests("Uploaded")


def test_file_is_sent_as_its_bytes(server: Any, client: Any, tmp_path: Path) -> None:
    small, large = tmp_path / "small.mp4", tmp_path / "large.mp4"
    small.write_bytes(b"small clip")
    large.write_bytes(CLIP)
    result = client.embed([VideoFile(small), VideoFile(large)])
    np.testing.assert_allclose(result.float32(), server.rows(hash_video(b"small clip"), hash_video(CLIP)), atol=1e-3)
    assert [header.content_hash for header in server.requests("Uploaded")] == [hash_video(CLIP)]


def test_large_field_of_a_post_is_uploaded_once_and_then_named_by_its_hash(server: Any, client: Any) -> None:
    posts = [Post({"title": title, "clip": Video(CLIP)}) for title in ("one", "two")]
    result = client.embed(posts)
    assert not result.failures
    (header,) = server.requests("Uploaded")
    assert header.request.durable  # kept before the posts ask for it
    (request,) = server.requests("Embed")
    for content in request.contents:
        clip = next(field for field in content.post.fields if field.name == "clip")
        assert clip.content.content_hash == hash_video(CLIP)
    expected = [hash_post({"title": hash_text(title), "clip": hash_video(CLIP)}) for title in ("one", "two")]
    np.testing.assert_allclose(result.float32(), server.rows(*expected), atol=1e-3)


def test_segments_of_a_known_video_are_asked_by_its_hash(server: Any, client: Any) -> None:
    server.held.add(hash_video(CLIP))
    client.embed([Video(CLIP)], segment_seconds=2)
    (request,) = server.requests("Embed")
    assert request.segments.seconds == 2
    assert [content.content_hash for content in request.contents] == [hash_video(CLIP)]
    assert not server.requests("Uploaded")


def test_missing_file_and_contradicting_options_are_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequest, match="is no file"):
        VideoFile(tmp_path / "gone.mp4")
    with pytest.raises(errors.InvalidRequest, match="both given"):
        embed(ClientSettings(), ["a"], {"fusion": "topic", "field_weights": {"title": 2.0}})
    with pytest.raises(errors.InvalidRequest, match="segment_seconds"):
        embed(ClientSettings(), ["a"], {"segment_seconds": -1.0})


def test_hash_of_pieces_is_the_hash_of_the_whole() -> None:
    hasher = content_hasher(Modality.VIDEO, 10)
    for piece in (b"abc", b"", b"defghij"):
        hasher.update(piece)
    assert hasher.digest() == hash_content(Modality.VIDEO, b"abcdefghij")
    with pytest.raises(ValueError, match="hash_post"):
        content_hasher(Modality.POST, 1)
