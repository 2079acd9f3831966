"""Posts through a real service: each field is a content of its own, and the whole is one too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from embedder.cli.heads import app
from embedder.config import load_settings
from embedder.server.service import Service
from embedder_client import Client, ClientSettings, ContentHash, Image, Post, Video, hash_post, hash_text
from embedder_client import errors as client_errors
from embedder_heads.fusion.attention import AttentionFusion
from embedder_heads.fusion.fusion_file import make_fusion
from embedder_heads.fusion.fusion_manifest import FusionManifest
from tests.clips import CARPHONE, clip

from .conftest import Running
from .pictures import as_file, photo
from .test_videos import encodes

ROCKET, COFFEE = as_file(photo("rocket"), "PNG"), as_file(photo("coffee"), "PNG")


def post(title: str, **more: object) -> Post:
    fields = {"title": title, "body": "the body of this post", "cover": Image(ROCKET), "inside": Image(COFFEE), **more}
    return Post(fields)  # type: ignore[arg-type]


def fused(client: Client, fields: Post, weights: dict[str, float] | None = None) -> np.ndarray:
    """Fuse a post's fields by the documented formula, from the vectors that they have by themselves."""
    vectors = client.embed(list(fields.fields.values()), dtype="float32").vectors.astype(np.float64)
    scale = np.array([(weights or {}).get(name, 1.0) for name in fields.fields])
    total = (vectors * scale[:, None]).sum(axis=0)
    return total / np.linalg.norm(total)


def test_a_post_costs_an_encode_a_field_a_new_title_one_and_the_same_post_none(tmp_path: Path) -> None:
    settings = load_settings(listen_address="127.0.0.1:0", data_dir=tmp_path, cache_limit_bytes="64 MiB")
    service = Service(settings)
    service.start()
    try:
        with Client(service.address, settings=ClientSettings(timeout_s=60)) as client:
            for asked, cost in ((post("first"), 4), (post("second"), 1), (post("second"), 0)):
                before = encodes(client)
                assert not client.embed([asked], durable=True).failures
                assert encodes(client) - before == cost
            total = client.savings(group_by="").total
            # Four fields, four again of which three were held, and the whole.
            assert (total.contents_asked, total.cache_hits, total.encodes) == (9, 4, 5)
    finally:
        service.stop()


def test_the_vector_is_the_documented_formula(client: Client) -> None:
    asked = post("a formula")
    got = client.embed([asked], dtype="float32").vectors[0]
    assert np.allclose(got, fused(client, asked), atol=1e-3)


def test_weights_of_a_call_count_for_that_call_alone(client: Client) -> None:
    asked = post("weights")
    plain = client.embed([asked], dtype="float32", durable=True).vectors[0]
    weights = {"title": 5.0, "body": 0.0}
    weighted = client.embed([asked], dtype="float32", field_weights=weights, durable=True)
    assert np.allclose(weighted.vectors[0], fused(client, asked, weights), atol=1e-3)
    assert not np.allclose(weighted.vectors[0], plain, atol=1e-2)
    assert np.array_equal(client.embed([asked], dtype="float32").vectors[0], plain)


def test_fields_may_be_missing_or_stand_in_any_order(client: Client) -> None:
    one = client.embed([Post({"title": "alone"})]).vectors[0]
    assert np.array_equal(one, client.embed(["alone"]).vectors[0])
    forth, back = post("order"), Post(dict(reversed(post("order").fields.items())))
    result = client.embed([forth, back])
    assert np.array_equal(result.vectors[0], result.vectors[1])


def test_a_known_post_is_answered_by_its_hash(client: Client) -> None:
    asked = Post({"title": "by hash", "body": "known"})
    whole = client.embed([asked], durable=True).vectors[0]
    digest = hash_post({"title": hash_text("by hash"), "body": hash_text("known")})
    assert np.array_equal(client.lookup([digest]).vectors[0], whole)
    assert np.array_equal(client.embed([ContentHash(digest)]).vectors[0], whole)
    assert client.delete([digest]) == 1
    assert client.lookup([hash_text("by hash"), digest]).found.tolist() == [True, False]


def test_fields_may_be_videos_and_hashes(client: Client) -> None:
    title = client.embed(["known title"], durable=True).vectors[0].astype(np.float64)
    asked = Post({"title": ContentHash(hash_text("known title")), "clip": Video(clip(CARPHONE))})
    result = client.embed([asked])
    assert not result.failures
    total = title + client.embed([Video(clip(CARPHONE))]).vectors[0].astype(np.float64)
    assert np.allclose(result.vectors[0], total / np.linalg.norm(total), atol=2e-3)


BAD = {
    "empty text": (Post({"title": "good", "body": ""}), "INVALID_CONTENT", "body"),
    "broken image": (Post({"title": "good", "cover": Image(ROCKET[:2_000])}), "INVALID_CONTENT", "cover"),
    "broken video": (Post({"title": "good", "clip": Video(b"#EXTM3U")}), "INVALID_CONTENT", "clip"),
    "long text": (Post({"title": "good", "body": "word " * 20_000}), "LIMIT_EXCEEDED", "body"),
    "unknown hash": (Post({"title": "good", "body": ContentHash(bytes(range(32)))}), "CONTENT_NOT_CACHED", "body"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_field_is_named_and_the_neighbours_are_served(client: Client, name: str) -> None:
    bad, reason, field = BAD[name]
    result = client.embed(["before", bad, post("a good post")])
    assert [failure.index for failure in result.failures] == [1]
    failure = result.failures[0]
    assert failure.reason == reason
    assert failure.metadata["post_field"] == field
    assert f"field {field!r}" in failure.message
    assert result.vectors[2].any()


def test_too_many_fields_or_none_are_refused(client: Client) -> None:
    many = Post({f"field{number}": "text" for number in range(33)})
    result = client.embed([many, Post({})])
    assert [failure.reason for failure in result.failures] == ["LIMIT_EXCEEDED", "INVALID_CONTENT"]
    assert result.failures[0].metadata["field"] == "max_post_fields"


@pytest.fixture
def fusion(running: Running) -> AttentionFusion:
    space = running.runtime.spaces.resolve("")
    rng = np.random.default_rng(3)
    width, dim = 8, space.info.dim
    manifest = FusionManifest(
        name="by-field",
        space_digest=space.digest.hex(),
        dim=dim,
        fields=("body", "title"),
        data_digest=bytes(32).hex(),
    )
    tensors = {
        "query": rng.normal(size=width).astype(np.float32),
        "query_of_mean": rng.normal(size=(width, dim)).astype(np.float32),
        "key_of_vector": rng.normal(size=(width, dim)).astype(np.float32),
        "key_of_name": rng.normal(size=(3, width)).astype(np.float32),
    }
    published = running.runtime.fusions.publish(make_fusion(manifest, tensors))
    running.runtime.fusions.refresh()
    return published


def test_trained_fusion_has_a_key_of_its_own(client: Client, fusion: AttentionFusion) -> None:
    asked = Post({"title": "what counts", "body": "is learned", "note": "of an unknown name"})
    mean = client.embed([asked], dtype="float32", durable=True).vectors[0]
    name = f"by-field@{fusion.manifest.version}"
    before = encodes(client)
    learned = client.embed([asked], dtype="float32", fusion=name, durable=True).vectors[0]
    again = client.embed([asked], dtype="float32", fusion=name)
    assert encodes(client) == before  # the fields were there
    assert str(again.sources[0]) == "cache"
    fields = client.embed(list(asked.fields.values()), dtype="float32").vectors
    assert np.allclose(learned, fusion.fuse(list(asked.fields), fields), atol=1e-3)
    assert np.array_equal(learned, again.vectors[0])
    assert not np.allclose(learned, mean, atol=1e-3)
    digest = hash_post({field: hash_text(str(text)) for field, text in asked.fields.items()})
    assert np.array_equal(client.lookup([digest], fusion=name, dtype="float32").vectors[0], learned)
    assert np.array_equal(client.lookup([digest], dtype="float32").vectors[0], mean)


def test_unknown_fusion_and_contradictions_are_refused(client: Client) -> None:
    with pytest.raises(client_errors.NotFound, match="no fusion"):
        client.embed([post("x")], fusion="unheard-of")
    with pytest.raises(client_errors.InvalidRequest, match="both"):
        client.embed([post("x")], fusion="mean", field_weights={"title": 2})
    with pytest.raises(client_errors.InvalidRequest, match="weights"):
        client.embed([post("x")], field_weights={"title": -1})


def test_command_trains_a_fusion_that_calls_can_name(
    client: Client, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    sports = ["football", "tennis", "rowing", "boxing", "cycling"]
    foods = ["bread", "soup", "cheese", "apples", "rice"]
    rows = [
        {"fields": {"title": f"{what} number {number}", "note": f"note {number}"}, "label": label}
        for label, names in (("sport", sports), ("food", foods))
        for number, what in enumerate(names * 4)
    ]
    file = tmp_path / "posts.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    arguments = ["train", "fusion", str(file), "--name", "said", "--epochs", "5"]
    folder = str(running.runtime.settings.fusions_path)
    trained = CliRunner().invoke(app, [*arguments, "--fusions-dir", folder, "--target", running.target])
    assert trained.exit_code == 0, trained.output
    assert "accuracy_mean" in trained.output
    running.runtime.fusions.refresh()
    asked = Post({"title": "rowing number 3", "note": "note 3"})
    assert not client.embed([asked], fusion="said").failures
