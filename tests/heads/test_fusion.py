"""Trained fusions: what is learned, what is kept on disk, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from embedder_heads.errors import ArtifactNotFound, HeadInvalid, HeadNameInvalid, HeadSpaceMismatch, TrainingDataInvalid
from embedder_heads.fusion.attention import AttentionFusion
from embedder_heads.fusion.fusion_file import MANIFEST, TENSORS, load_fusion, save_fusion
from embedder_heads.fusion.library import FusionLibrary
from embedder_heads.training.fusion import FusionOptions, make_post_examples, train_fusion
from embedder_heads.training.posts import read_posts

DIM = 16
SPACE = bytes(range(32))


def unit(vector: np.ndarray) -> np.ndarray:
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def labelled_posts(count: int = 400) -> tuple[list[Mapping[str, np.ndarray]], list[str]]:
    """Posts whose `title` says the label, and whose `noise` says another one's, twice as often as not."""
    rng = np.random.default_rng(0)
    posts, labels = [], []
    for _ in range(count):
        label = int(rng.integers(4))
        title = unit(np.eye(DIM)[label] + 0.3 * rng.normal(size=DIM))
        noise = unit(np.eye(DIM)[int(rng.integers(4))] + 0.3 * rng.normal(size=DIM))
        posts.append({"title": title, "noise": noise} if rng.random() < 0.9 else {"title": title})
        labels.append(f"label{label}")
    return posts, labels


@pytest.fixture(scope="module")
def trained() -> AttentionFusion:
    examples = make_post_examples(*labelled_posts())
    return train_fusion(examples, name="topic", space_digest=SPACE, options=FusionOptions(max_epochs=40))


def test_attention_learns_which_field_counts(trained: AttentionFusion) -> None:
    posts, _ = labelled_posts()
    both = [post for post in posts if len(post) == 2]
    weights = [trained.weigh(["title", "noise"], np.stack([post["title"], post["noise"]])) for post in both]
    assert np.mean(weights, axis=0)[0] > 0.6  # the plain mean gives each a half
    metrics = trained.manifest.metrics
    assert metrics["accuracy"].low > metrics["accuracy_mean"].high  # held out, beside the plain mean


def test_serving_computes_what_training_did(trained: AttentionFusion) -> None:
    rng = np.random.default_rng(4)
    vectors = np.stack([unit(rng.normal(size=DIM)) for _ in range(3)])
    names = ["title", "unheard of", "noise"]
    t = trained.tensors
    rows = [t["key_of_name"][trained.manifest.fields.index(n) if n in trained.manifest.fields else -1] for n in names]
    query = t["query"] + t["query_of_mean"] @ vectors.mean(axis=0)
    scores = np.array(
        [query @ (t["key_of_vector"] @ vector + row) for vector, row in zip(vectors, rows, strict=True)]
    ) / np.sqrt(len(query))
    weights = np.exp(scores) / np.exp(scores).sum()
    assert np.allclose(trained.fuse(names, vectors), unit(weights @ vectors), atol=1e-5)


def test_order_of_fields_plays_no_part_and_one_field_is_itself(trained: AttentionFusion) -> None:
    rng = np.random.default_rng(5)
    one, two = (unit(rng.normal(size=DIM)) for _ in range(2))
    forth = trained.fuse(["title", "noise"], np.stack([one, two]))
    back = trained.fuse(["noise", "title"], np.stack([two, one]))
    assert np.allclose(forth, back, atol=1e-6)
    assert np.allclose(trained.fuse(["title"], one[None]), one, atol=1e-6)


def test_opposite_fields_still_give_a_unit_vector(trained: AttentionFusion) -> None:
    one = unit(np.ones(DIM))
    level = AttentionFusion(
        trained.manifest, {name: np.zeros_like(tensor) for name, tensor in trained.tensors.items()}, "0" * 64
    )
    assert np.linalg.norm(level.fuse(["a", "b"], np.stack([one, -one]))) == pytest.approx(1.0, abs=1e-6)


def test_training_is_repeatable(trained: AttentionFusion) -> None:
    examples = make_post_examples(*labelled_posts())
    again = train_fusion(examples, name="topic", space_digest=SPACE, options=FusionOptions(max_epochs=40))
    assert again.tensors_digest == trained.tensors_digest


def test_library_publishes_versions_and_resolves_them(tmp_path: Path, trained: AttentionFusion) -> None:
    library = FusionLibrary(tmp_path)
    for _ in range(2):
        library.publish(trained, alias="prod")
    assert library.refresh().changed
    assert not library.refresh().changed
    assert library.resolve("topic", SPACE).manifest.version == 2
    assert library.resolve("topic@1", SPACE).identity == library.resolve("topic@prod", SPACE).identity
    assert len(library.of_space(SPACE)) == 2
    assert library.of_space(bytes(32)) == []
    with pytest.raises(ArtifactNotFound, match="there are mean, topic"):
        library.resolve("other", SPACE)
    with pytest.raises(HeadSpaceMismatch):
        library.resolve("topic", bytes(32))


def test_mean_is_no_name_of_a_trained_fusion(tmp_path: Path, trained: AttentionFusion) -> None:
    from dataclasses import replace

    with pytest.raises(HeadNameInvalid, match="needs no training"):
        FusionLibrary(tmp_path).publish(replace(trained, manifest=replace(trained.manifest, name="mean")))


def test_files_that_are_not_right_are_refused_and_the_last_good_version_serves(
    tmp_path: Path, trained: AttentionFusion
) -> None:
    library = FusionLibrary(tmp_path)
    library.publish(trained)
    library.publish(trained)
    tensors = tmp_path / "topic/2" / TENSORS
    tensors.write_bytes(tensors.read_bytes()[:-4] + bytes(4))
    fresh = FusionLibrary(tmp_path)
    assert fresh.resolve("topic", SPACE).manifest.version == 1
    with pytest.raises(HeadInvalid, match="digest"):
        load_fusion(tmp_path / "topic/2")


def test_manifest_and_tensors_must_fit(tmp_path: Path, trained: AttentionFusion) -> None:
    save_fusion(trained, tmp_path, name="topic", version=1)
    document = json.loads((tmp_path / MANIFEST).read_text())
    (tmp_path / MANIFEST).write_text(json.dumps({**document, "fields": [*document["fields"], "one more"]}))
    with pytest.raises(HeadInvalid, match="key_of_name"):
        load_fusion(tmp_path)


def test_posts_are_read_with_their_media_and_missing_fields(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"picture")
    (tmp_path / "a.mp4").write_bytes(b"clip")
    rows = [
        {"fields": {"title": "one", "cover": {"image": "a.jpg"}, "body": ""}, "label": "x"},
        {"fields": {"title": None, "clip": {"video": "a.mp4"}}, "label": 7},
    ]
    path = tmp_path / "posts.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    posts = read_posts(path, fields="fields", label="label")
    assert [sorted(post) for post in posts.posts] == [["cover", "title"], ["clip"]]
    assert posts.labels == ("x", "7")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"label": "x"}, "row 1: fields is not an object"),
        ({"fields": {"title": ""}, "label": "x"}, "row 1 has no field"),
        ({"fields": {"title": "a"}}, "label=None"),
        ({"fields": {"cover": {"image": "gone.jpg"}}, "label": "x"}, "can't be read"),
        ({"fields": {"clip": {"video": "gone.mp4"}}, "label": "x"}, "is no file"),
        ({"fields": {"cover": ["a"]}, "label": "x"}, "field 'cover' is neither"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, row: dict[str, object], words: str) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_text(json.dumps(row))
    with pytest.raises(TrainingDataInvalid, match=words):
        read_posts(path, fields="fields", label="label")


def test_too_few_posts_are_refused() -> None:
    posts, labels = labelled_posts(19)
    with pytest.raises(TrainingDataInvalid, match="20 posts"):
        make_post_examples(posts, labels)
