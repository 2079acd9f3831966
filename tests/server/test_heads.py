"""Predict, Retrieve and Recommend through a real service, on heads and indexes published while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from embedder_client import Client, ItemSource, Range, Rerank, errors, hash_texts
from embedder_heads import Head, HeadKind, HeadManifest, HeadRegistry, Task

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
            "articles", ["a match"], mode=mode, top_k=6, filters={"size": Range(high=39), "kind": "str"}
        ).results
        assert {hit.id for hit in hits} == short
    [none] = client.retrieve("articles", ["a match"], filters={"kind": ["bytes", "int"]}).results
    assert none == []
    for filters, words in (
        ({"colour": "red"}, "no field 'colour'"),
        ({"size": "39"}, "holds numbers"),
        ({"kind": Range(1, 2)}, "holds texts"),
        ({"size": Range(5, 1)}, "holds no number"),
        ({"size": []}, "none of"),
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
