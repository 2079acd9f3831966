"""Predict, Retrieve and Recommend through a real service, on heads and indexes published while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from embedder.server.accounting import head_label
from embedder_client import (
    Client,
    ContentHash,
    Image,
    ItemSource,
    NumberRange,
    Post,
    Rerank,
    Text,
    errors,
    hash_text,
    hash_texts,
)
from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task
from embedder_heads.recommendation.recommender import TrainedRecommender
from embedder_heads.training.classification import train_head
from embedder_heads.training.examples import make_examples
from embedder_heads.training.interactions import Catalogue
from embedder_heads.training.options import TrainOptions
from embedder_heads.training.table import Content
from embedder_heads.training.two_tower import TwoTowerOptions, train_two_tower
from embedder_heads.training.vectors import embed_contents
from tests.faults.hot_swaps import swap_under_load

from .conftest import Running
from .pictures import as_file, photo

SPORT = ["The striker scored twice in the cup final", "She won the marathon in record time", "The coach named his team"]
MONEY = ["Shares fell as the bank raised rates", "The firm reported a loss for the quarter", "Oil prices rose again"]


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(0.02)


def _publish(running: Running, client: Client, name: str, *, task: Task = Task.SINGLE_LABEL) -> int:
    """Publish a head whose two labels point at the means of the two topics; returns its version."""
    means = [client.embed(texts, dtype="float32").vectors.mean(axis=0) for texts in (SPORT, MONEY)]
    space = running.runtime.spaces.resolve("")
    manifest = HeadManifest(
        name=name,
        kind=HeadKind.LINEAR,
        task=task,
        space_digest=space.digest.hex(),
        dim=space.info.dim,
        labels=("sport", "money"),
        thresholds=(0.5, 0.5) if task is Task.MULTI_LABEL else (),
        data_digest="0" * 64,
    )
    tensors = {"weight": np.stack(means).astype(np.float32) * 20, "bias": np.zeros(2, np.float32)}
    version = HeadRegistry(running.runtime.settings.heads_path).publish(Head(manifest, tensors)).manifest.version
    _wait_until(lambda: any((head.head, head.version) == (name, version) for head in client.list_heads().heads))
    return version


def test_several_heads_answer_on_one_forward(running: Running, client: Client) -> None:
    _publish(running, client, "topic")
    _publish(running, client, "tags", task=Task.MULTI_LABEL)
    before = client.savings(group_by="").total.encodes
    texts = ["The team won the match", "The bank cut its rates", ""]
    result = client.predict(texts, heads={"topic": 1, "tags": 0}, include_vectors=True)
    topic, tags = result.predictions
    assert [topic.ranked(row)[0][0] for row in (0, 1)] == ["sport", "money"]
    assert topic.scores.shape == (3, 1)
    assert tags.labels == ("sport", "money")
    assert tags.scores.shape == (3, 2)
    assert tags.thresholds is not None
    assert tags.scores[1, 1] > tags.scores[1, 0]
    assert [failure.index for failure in result.failures] == [2]
    assert not topic.scores[2].any()
    assert result.vectors is not None
    assert result.vectors.shape == (3, 384)
    assert client.savings(group_by="").total.encodes == before + 2


def test_heads_run_on_content_hashes_alone(running: Running, client: Client) -> None:
    _publish(running, client, "by-hash")
    client.embed(["The team won the league"], durable=True)
    result = client.predict(hashes=hash_texts(["The team won the league", "never sent"]), heads=["by-hash"], top_k=1)
    assert result.sources == [ItemSource.CACHE, ItemSource.FAILED]
    assert result.failures[0].reason == "CONTENT_NOT_CACHED"
    assert result["by-hash"].ranked(0)[0][0] == "sport"


def test_many_heads_come_as_one_block(running: Running, client: Client) -> None:
    for name in ("block-a", "block-b"):
        _publish(running, client, name)
    _publish(running, client, "block-c", task=Task.MULTI_LABEL)
    heads, texts = ["block-c", "block-a", "block-b@1"], ["The team won the match", "", "The bank cut its rates"]
    before = client.savings(group_by="").total.encodes
    for _ in range(2):  # the second answer leaves the layout out
        packed = client.predict(texts, heads, packed_scores=True)
        single = client.predict(texts, heads)
        for one, other in zip(packed.predictions, single.predictions, strict=True):
            assert (one.head, one.version, one.kind, one.labels) == (
                other.head,
                other.version,
                other.kind,
                other.labels,
            )
            np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    assert [failure.index for failure in packed.failures] == [1]
    assert not packed["block-a"].scores[1].any()
    assert client.savings(group_by="").total.encodes <= before + 2
    rows = {row.group: row for row in client.savings(group_by="task").rows}
    assert rows["block-a"].contents_asked == rows["block-b"].contents_asked == 12
    with pytest.raises(errors.NotFound, match="no-such"):
        client.predict(texts, ["block-a", "no-such"], packed_scores=True)


def test_candidates_are_scored_by_hash_alone(running: Running, client: Client) -> None:
    vectors = client.embed([*SPORT, *MONEY, "a cup final"], dtype="float32").vectors
    hashes = hash_texts([*SPORT, *MONEY, "never seen"])
    for query in ("a cup final", ContentHash(hash_text("a cup final"))):
        result = client.score(query, hashes=hashes)
        np.testing.assert_allclose(result.scores[:6], vectors[:6] @ vectors[6], atol=1e-3)
        assert result.scale == "cosine"
        assert [(failure.index, failure.reason) for failure in result.failures] == [(6, "CONTENT_NOT_CACHED")]
    taste = client.score(history_hashes=hash_texts(MONEY[:1]), hashes=hash_texts([SPORT[0], MONEY[1]]))
    assert taste.ranked()[0] == 1
    with pytest.raises(errors.NotFound):
        client.score(ContentHash(bytes(32)), hashes=hashes)


def test_users_and_ids_are_scored_and_filtered_by_their_index(running: Running, client: Client) -> None:
    items = {f"sport {number}": text for number, text in enumerate(SPORT)}
    items |= {f"money {number}": text for number, text in enumerate(MONEY)}
    vectors = client.embed(list(items.values()), dtype="float32").vectors
    metadata = [{"section": name.split()[0], "number": int(name.split()[1])} for name in items]
    catalogue = Catalogue(tuple(items), vectors, ((),) * len(items))
    tower = train_two_tower(
        catalogue,
        [np.array([0, 1, 2]), np.array([3, 4, 5])],
        options=TwoTowerOptions(axes=4, width=4, side=4, epochs=1),
    )
    digest, users = running.runtime.spaces.resolve("").digest, {"ann": ["sport 0", "sport 1"]}
    running.runtime.indexes.publish(
        "paper", vectors, list(items), metadata, space_digest=digest, recommender=TrainedRecommender(tower, users=users)
    )
    _wait_until(lambda: any(index.index == "paper" for index in client.list_heads().indexes))
    hits = client.recommend("paper", user_id="ann", top_k=6).hits
    assert {hit.id for hit in hits} == set(items) - set(users["ann"])
    scored = client.score(index="paper", user_id="ann", ids=[*(hit.id for hit in hits), "no such item"])
    np.testing.assert_allclose(scored.scores[:-1], [hit.score for hit in hits], rtol=1e-4)
    assert (scored.scale, [failure.index for failure in scored.failures]) == ("logit", [4])
    money = client.recommend("paper", user_id="ann", filters={"section": "money", "number": NumberRange(1)}).hits
    assert {hit.id for hit in money} == {"money 1", "money 2"}
    with pytest.raises(errors.NotFound, match="'eve'"):
        client.recommend("paper", user_id="eve")
    with pytest.raises(errors.InvalidRequest, match="holds numbers"):
        client.recommend("paper", user_id="ann", filters={"number": "1"})
    with pytest.raises(errors.InvalidRequest, match="no field 'shelf'"):
        client.recommend("paper", user_id="ann", filters={"shelf": "a"})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"query": "x", "history_hashes": [bytes(32)], "hashes": [bytes(32)]}, "both a query and a user"),
        ({"hashes": [bytes(32)]}, "neither a query nor a user"),
        ({"query": "x", "ids": ["a"]}, "name it in `index`"),
        ({"history_hashes": [bytes(32)], "hashes": [bytes(32)]}, "nothing of the history"),
    ],
)
def test_what_can_not_be_scored_is_told(client: Client, options: Any, words: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=words):
        client.score(**options)


def test_second_head_on_the_same_contents_encodes_nothing(client: Client) -> None:
    contents = [Text(f"{text} once more") for text in (*SPORT, *MONEY)]
    first = embed_contents(client, contents, task="train first")
    second = embed_contents(client, contents, task="train second")
    assert (first.computed, second.computed) == (6, 0)
    rows = {row.group: row for row in client.savings(group_by="task").rows}
    assert (rows["train first"].encodes, rows["train second"].encodes) == (6, 0)
    for name, found in (("first", first), ("second", second)):
        examples = make_examples(found.vectors, ["sport"] * 3 + ["money"] * 3, task=Task.SINGLE_LABEL)
        train_head(examples, name=name, space_digest=found.space_digest, options=TrainOptions(folds=2))


def _train(running: Running, client: Client, name: str, contents: list[Content], labels: list[str]) -> None:
    found = embed_contents(client, contents, task=f"train {name}")
    assert found.failures == {}
    examples = make_examples(found.vectors, labels, task=Task.SINGLE_LABEL)
    trained = train_head(examples, name=name, space_digest=found.space_digest, options=TrainOptions(folds=2))
    HeadRegistry(running.runtime.settings.heads_path).publish(trained.head)
    _wait_until(lambda: any(head.head == name for head in client.list_heads().heads))


def _crops(name: str, count: int) -> list[bytes]:
    """Cut overlapping pieces of one photograph: other bytes and other pixels each, of one subject."""
    picture = photo(name)
    width, height = picture.size
    boxes = [(4 * number, 3 * number, width - 5 * number - 1, height - 2 * number - 1) for number in range(count)]
    return [as_file(picture.crop(box), "PNG") for box in boxes]


def test_a_few_pictures_make_a_head(running: Running, client: Client) -> None:
    cats, coffees = _crops("chelsea", 4), _crops("coffee", 4)
    _train(running, client, "picture", [Image(file) for file in cats[:3] + coffees[:3]], ["cat"] * 3 + ["coffee"] * 3)
    result = client.predict([Image(cats[3]), Image(coffees[3])], heads=["picture"], top_k=1)
    assert [result["picture"].ranked(row)[0][0] for row in (0, 1)] == ["cat", "coffee"]


def test_posts_of_words_and_pictures_make_a_head(running: Running, client: Client) -> None:
    cats, coffees = _crops("chelsea", 3), _crops("coffee", 3)
    posts: list[Content] = [Post({"title": text, "photo": file}) for text, file in zip(SPORT, cats, strict=True)]
    posts += [Post({"title": text, "photo": file}) for text, file in zip(MONEY, coffees, strict=True)]
    _train(running, client, "post", posts, ["sport"] * 3 + ["money"] * 3)
    asked = [Post({"title": "The goalkeeper saved a penalty"}), Post({"title": "The bank raised its prices"})]
    result = client.predict(asked, heads=["post"], top_k=1)
    assert [result["post"].ranked(row)[0][0] for row in (0, 1)] == ["sport", "money"]


def test_one_example_a_label_is_enough_for_a_head(running: Running, client: Client) -> None:
    _train(running, client, "few-shot", [Text(SPORT[0]), Text(MONEY[0])], ["sport", "money"])
    result = client.predict([*SPORT[1:], *MONEY[1:]], heads=["few-shot"], top_k=1)
    assert [result["few-shot"].ranked(row)[0][0] for row in range(4)] == ["sport"] * 2 + ["money"] * 2


def test_hot_swaps_under_load_fail_no_call_and_mix_no_versions(running: Running, client: Client) -> None:
    outcome = swap_under_load(running.runtime, client, swaps=60)
    assert outcome.faults == []
    assert all(len(versions) > 3 for versions in outcome.versions)


def test_unknown_head_is_told_before_anything_is_computed(client: Client) -> None:
    before = client.savings(group_by="").total.encodes
    with pytest.raises(errors.NotFound, match="no-such-head"):
        client.predict(["a text that nobody has sent before"], heads=["no-such-head"])
    assert client.savings(group_by="").total.encodes == before


def test_head_of_another_space_is_refused_and_says_which_it_wants(running: Running, client: Client) -> None:
    manifest = HeadManifest(
        name="stranger",
        kind=HeadKind.LINEAR,
        task=Task.SINGLE_LABEL,
        space_digest="ab" * 32,
        dim=384,
        labels=("a", "b"),
        thresholds=(),
        data_digest="0" * 64,
    )
    tensors = {"weight": np.ones((2, 384), np.float32), "bias": np.zeros(2, np.float32)}
    HeadRegistry(running.runtime.settings.heads_path).publish(Head(manifest, tensors))
    _wait_until(lambda: any(head.head == "stranger" for head in client.list_heads().heads))
    with pytest.raises(errors.FailedPrecondition, match="abababab"):
        client.predict(["x"], heads=["stranger"])


def test_new_version_is_served_within_seconds_and_old_one_can_still_be_asked(running: Running, client: Client) -> None:
    first = _publish(running, client, "moving")
    second = _publish(running, client, "moving")
    assert second == first + 1
    assert client.predict(["x y"], heads=["moving"]).predictions[0].version == second
    assert client.predict(["x y"], heads=[f"moving@{first}"]).predictions[0].version == first


def test_each_head_counts_as_a_task_unless_the_call_names_one(running: Running, client: Client) -> None:
    _publish(running, client, "counted-a")
    _publish(running, client, "counted-b")
    client.predict(["count this", "and this"], heads=["counted-a", "counted-b"])
    client.predict(["count this", "and this"], heads=["counted-a", "counted-b"], task="named-task")
    rows = {row.group: row for row in client.savings(group_by="task").rows}
    assert (rows["counted-a"].contents_asked, rows["counted-b"].contents_asked) == (2, 2)
    assert (rows["counted-a"].encodes, rows["counted-b"].encodes, rows["counted-b"].in_flight_hits) == (2, 0, 2)
    assert (rows["named-task"].contents_asked, rows["named-task"].encodes) == (2, 0)
    assert rows["counted-a"].head_time is not None
    assert rows["counted-a"].head_time.value > 0


def _build_index(running: Running, client: Client, name: str, items: dict[str, str | bytes]) -> None:
    vectors = client.embed(list(items.values()), dtype="float32").vectors
    digest = running.runtime.spaces.resolve("").digest
    metadata = [{"kind": type(item).__name__, "size": len(item)} for item in items.values()]
    texts = [item if isinstance(item, str) else "" for item in items.values()]
    running.runtime.indexes.publish(
        name, vectors, list(items), metadata, space_digest=digest, texts=texts if any(texts) else None
    )
    _wait_until(lambda: any(index.index == name for index in client.list_heads().indexes))


def test_text_finds_pictures(running: Running, client: Client) -> None:
    names = ("chelsea", "coffee", "rocket")
    _build_index(running, client, "pictures", {name: as_file(photo(name), "PNG") for name in names})
    result = client.retrieve("pictures", ["a cat", "a cup of coffee", "a rocket", ""], top_k=2)
    assert [hits[0].id for hits in result.results[:3]] == list(names)
    assert result.results[0][0].metadata["kind"] == "bytes"
    assert result.results[3] == []
    assert [failure.index for failure in result.failures] == [3]


def test_picture_finds_pictures(running: Running, client: Client) -> None:
    _build_index(
        running, client, "photos", {name: as_file(photo(name), "PNG") for name in ("chelsea", "coffee", "rocket")}
    )
    # Another file of the same picture: other bytes, so its vector is computed, not looked up.
    result = client.retrieve("photos", [as_file(photo("coffee"), "JPEG")], top_k=1)
    assert result.results[0][0].id == "coffee"
    with pytest.raises(errors.InvalidRequest, match="keeps no texts"):
        client.retrieve("photos", ["coffee"], mode="lexical")


def _news() -> dict[str, str | bytes]:
    return {f"sport {row}": text for row, text in enumerate(SPORT)} | {
        f"money {row}": text for row, text in enumerate(MONEY)
    }


def test_words_and_vectors_find_together(running: Running, client: Client) -> None:
    _build_index(running, client, "articles", _news())
    [words] = client.retrieve("articles", ["marathon"], mode="lexical", include_text=True).results
    assert [(hit.id, hit.text) for hit in words] == [("sport 1", SPORT[1])]
    [both, failed] = client.retrieve("articles", ["marathon runners", ""], mode="hybrid", top_k=6).results
    assert both[0].id == "sport 1"
    assert len(both) == 6
    assert both[0].text == ""
    assert failed == []
    with pytest.raises(errors.InvalidRequest, match="no text"):
        client.retrieve("articles", [as_file(photo("coffee"), "PNG")], mode="hybrid")


def test_filters_decide_what_may_be_found(running: Running, client: Client) -> None:
    _build_index(running, client, "articles", _news())
    short = {
        f"{kind} {row}"
        for kind, texts in (("sport", SPORT), ("money", MONEY))
        for row, text in enumerate(texts)
        if len(text) < 40
    }
    for mode in ("dense", "hybrid"):
        [hits] = client.retrieve(
            "articles", ["a match"], mode=mode, top_k=6, filters={"size": NumberRange(high=39), "kind": "str"}
        ).results
        assert {hit.id for hit in hits} == short
    [none] = client.retrieve("articles", ["a match"], filters={"kind": ["bytes", "int"]}).results
    assert none == []
    for filters, words in (
        ({"colour": "red"}, "no field 'colour'"),
        ({"size": "39"}, "holds numbers"),
        ({"kind": NumberRange(1, 2)}, "holds texts"),
        ({"size": NumberRange(5, 1)}, "low is at most high"),
        ({"size": []}, "is no text, number"),
    ):
        with pytest.raises(errors.InvalidRequest, match=words):
            client.retrieve("articles", ["a match"], filters=filters)


def test_found_items_are_ranked_again_by_a_head(running: Running, client: Client) -> None:
    _build_index(running, client, "articles", _news())
    _publish(running, client, "ranker")
    by_money = client.retrieve("articles", [SPORT[0]], top_k=3, rerank=Rerank(6, "ranker", "money")).results[0]
    assert {hit.id for hit in by_money} == {"money 0", "money 1", "money 2"}
    assert [hit.score for hit in by_money] == sorted((hit.score for hit in by_money), reverse=True)
    exact = client.retrieve("articles", [SPORT[0]], top_k=1, mode="lexical", rerank=Rerank()).results[0]
    assert (exact[0].id, round(exact[0].score, 2)) == ("sport 0", 1.0)
    with pytest.raises(errors.InvalidRequest, match="sport, money"):
        client.retrieve("articles", ["x"], rerank=Rerank(head="ranker", label="art"))
    with pytest.raises(errors.NotFound, match="no-such-head"):
        client.retrieve("articles", ["x"], rerank=Rerank(head="no-such-head"))


def test_recommendation_leaves_out_what_was_seen_by_id_or_by_content(running: Running, client: Client) -> None:
    items = {f"sport {number}": text for number, text in enumerate(SPORT)}
    items |= {f"money {number}": text for number, text in enumerate(MONEY)}
    _build_index(running, client, "news", items)
    by_id = client.recommend("news", history_ids=["sport 0"], top_k=2).hits
    assert {hit.id for hit in by_id} == {"sport 1", "sport 2"}
    by_content = client.recommend("news", history=[MONEY[0]], top_k=6, exclude_ids=["money 1"]).hits
    assert by_content[0].id == "money 2"
    assert not {"money 0", "money 1"} & {hit.id for hit in by_content}


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda client: client.retrieve("no-such-index", ["x"]), errors.NotFound, "no-such-index"),
        (lambda client: client.recommend("no-such-index", history_ids=["x"]), errors.NotFound, "no-such-index"),
        (lambda client: client.retrieve("../etc", ["x"]), errors.InvalidRequest, "etc"),
        (lambda client: client.predict(["x"], heads=["../etc"]), errors.InvalidRequest, "etc"),
        (lambda client: list(client.answer("no-such-index", "why?")), errors.NotFound, "no-such-index"),
    ],
)
def test_wrong_names_are_told(client: Client, ask, error, words) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error, match=words):
        ask(client)


def test_rows_of_the_savings_add_up_to_the_total(client: Client) -> None:
    client.embed(["add this up"], task="one")
    client.embed(["add this up"], task="two")
    for group_by in ("task", "client", "space", "lane"):
        report = client.savings(group_by=group_by)
        for counter in ("contents_asked", "cache_hits", "in_flight_hits", "encodes", "failures"):
            assert sum(getattr(row, counter) for row in report.rows) == getattr(report.total, counter)
    two = next(row for row in client.savings(group_by="task").rows if row.group == "two")
    assert (two.encodes, two.cache_hits + two.in_flight_hits) == (0, 1)
    assert two.device_time_saved is not None
    assert two.device_time_saved.value > 0
    assert report.assumptions


def test_label_of_very_many_heads_stays_small() -> None:
    assert head_label(["topic", "mood"]) == "mood+topic"
    names = [f"head-{number:04}" for number in range(1_000)]
    assert head_label(names[:8]) == "+".join(names[:8])
    assert head_label(names) == "+".join(names[:8]) + "+992 more"
