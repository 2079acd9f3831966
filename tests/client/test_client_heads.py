"""Heads, savings and the operator's calls as both clients promise them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import numpy as np
import pytest

from embedder_client import NumberRange, errors, hash_text, hash_texts
from embedder_client.v1 import savings_service_pb2

TEXTS = [f"text {number}" for number in range(700)]


def test_predict_gives_every_score_or_the_best(server: Any, client: Any) -> None:
    result = client.predict(["a", "", "c"], {"topic": 0, "tone@3": 2}, task="ranking", include_vectors=True, dim=16)
    every, best = result["topic"], result["tone@3"]
    assert every.scores.shape == every.label_indices.shape == (3, 3)
    assert best.scores.shape == best.label_indices.shape == (3, 2)
    assert best.ranked(0) == every.ranked(0)[:2]
    assert (every.version, every.kind, every.labels) == (3, "single_label", server.labels)
    assert [failure.index for failure in result.failures] == [1]
    assert result.vectors.shape == (3, 16)
    assert client.predict(["a"], ["topic"]).vectors is None
    assert result["topic@3"] is result["topic@prod"] is every
    for unknown in ("unknown", "topic@4"):
        with pytest.raises(KeyError):
            result[unknown]


def test_predict_by_hash_is_split_and_merged(server: Any, connect: Any) -> None:
    server.held.update(map(hash_text, TEXTS[:9]))
    whole = connect().predict(TEXTS[:10], ["topic", "tone"], top_k=2)
    split = connect(max_request_items=3).predict(hashes=hash_texts(TEXTS[:10]), heads=["topic", "tone"], top_k=2)
    assert sorted(len(request.content_hashes) // 32 for request in server.requests("Predict")[1:]) == [1, 3, 3, 3]
    assert [failure.reason for failure in split.failures] == ["CONTENT_NOT_CACHED"]
    np.testing.assert_array_equal(split["tone"].scores[:9], whole["tone"].scores[:9])
    np.testing.assert_array_equal(split["tone"].label_indices[:9], whole["tone"].label_indices[:9])


def test_head_that_changes_between_parts_fails_the_call(server: Any, connect: Any) -> None:
    def promote(request: Any, context: Any) -> Any:
        answer = server.honest("Predict", request, context)
        answer.results[0].version = len(request.contents[0].text)
        return answer

    server.scripts["Predict"] = promote
    with pytest.raises(errors.FailedPrecondition, match="head topic changed"):
        connect(max_request_items=1).predict(["a", "bb"], ["topic"])


def test_many_heads_come_as_one_block_whose_layout_crosses_once(server: Any, connect: Any) -> None:
    client = connect(max_request_items=2)
    heads = ["topic", "tone", "spam"]
    for _ in range(2):
        result = client.predict(["a", "", "c"], heads, packed_scores=True)
        assert [prediction.head for prediction in result.predictions] == heads
        tone = result["tone"]
        assert (tone.version, tone.kind, tone.labels) == (3, "multi_label", server.labels)
        np.testing.assert_array_equal(tone.scores, client.predict(["a", "", "c"], ["tone"])["tone"].scores)
        np.testing.assert_array_equal(tone.thresholds, [0.25, 0.5, 0.75])
        assert tone.compute_time.value == 2.0  # two parts of one second each
    known = [bool(request.known_layout) for request in server.requests("Predict") if request.head_refs]
    assert known == [False, False, True, True]
    whole = client.predict(["a"], heads, packed_scores=True).predictions
    assert whole.matrix.shape == (9, 1)
    assert [prediction.head for prediction in whole[1:]] == heads[1:]
    with pytest.raises(errors.InvalidRequest, match="leave out top_k"):
        client.predict(["a"], heads, packed_scores=True, top_k=1)


def test_layout_that_nobody_told_is_an_error(server: Any, client: Any) -> None:
    def forgetful(request: Any, context: Any) -> Any:
        answer = server.honest("Predict", request, context)
        answer.packed.ClearField("layout")
        return answer

    server.scripts["Predict"] = forgetful
    with pytest.raises(errors.Internal, match="layout"):
        client.predict(["a"], ["topic"], packed_scores=True)


def test_score_ranks_candidates_and_leaves_out_the_failed(server: Any, client: Any) -> None:
    result = client.score("a query", hashes=hash_texts(["a", "b", "c"]), task="ranking")
    assert result.scores.tolist() == [0, 1, 2]
    assert (result.scale, len(result), result.ranked()) == ("cosine", 3, [2, 1])
    client.score(index="films", user_id="7", history_ids=["x"], history_hashes=[hash_text("y")], ids=["p", "q"])
    by_hash, by_id = server.requests("Score")
    assert by_hash.query.text == "a query"
    assert (by_id.user_id, list(by_id.candidate_ids), len(by_id.history_hashes)) == ("7", ["p", "q"], 32)
    for options in ({}, {"hashes": [hash_text("a")], "ids": ["p"]}):
        with pytest.raises(errors.InvalidRequest, match="candidates"):
            client.score("a query", **options)


def test_filters_and_users_go_along_with_recommend(server: Any, client: Any) -> None:
    wanted = {"genre": ["War", "Crime"], "name": "Heat", "year": NumberRange(1990), "rank": 3, "size": [1, 2]}
    client.recommend("films", user_id="7", filters=wanted)
    [request] = server.requests("Recommend")
    sent = {entry.field: entry for entry in request.filters}
    assert request.user_id == "7"
    assert [list(sent["genre"].texts), list(sent["name"].texts)] == [["War", "Crime"], ["Heat"]]
    assert [list(sent["rank"].numbers), list(sent["size"].numbers)] == [[3.0], [1.0, 2.0]]
    assert (sent["year"].range.low, sent["year"].range.HasField("high")) == (1990.0, False)
    for wrong in ([], ["a", 1], [None]):
        with pytest.raises(errors.InvalidRequest, match="filter genre="):
            client.recommend("films", user_id="7", filters={"genre": wrong})


def test_retrieve_gives_hits_for_each_query(server: Any, connect: Any) -> None:
    result = connect(max_request_items=2).retrieve("photos", ["a", "", "c"], top_k=2)
    assert [[hit.id for hit in hits] for hits in result.results] == [["a-0", "a-1"], [], ["c-0", "c-1"]]
    assert result.results[0][1].metadata == {"rank": 1}
    assert [failure.index for failure in result.failures] == [1]


def test_recommend_takes_ids_and_contents(server: Any, client: Any) -> None:
    result = client.recommend("films", history_ids=["1"], history=["a film", b"poster"], exclude_ids=["9"], top_k=3)
    (request,) = server.requests("Recommend")
    assert (list(request.history_ids), list(request.exclude_ids), request.top_k) == (["1"], ["9"], 3)
    assert [content.WhichOneof("kind") for content in request.history] == ["text", "image"]
    assert [hit.id for hit in result.hits] == ["films-0", "films-1", "films-2"]


def test_answer_streams_its_pieces(client: Any) -> None:
    *words, last = client.answer("docs", "what is it", top_k=2)
    assert [piece.text for piece in words] == ["what", "is", "it"]
    assert [hit.id for hit in last.citations] == ["passage-0", "passage-1"]


def test_call_that_the_service_does_not_serve_is_unimplemented(server: Any, client: Any) -> None:
    def refuse(request: Any, context: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "served from a later version on")

    server.scripts["Answer"] = refuse
    with pytest.raises(errors.Unimplemented, match="later version"):
        list(client.answer("docs", "what is it"))


def test_list_heads_tells_heads_and_indexes(client: Any) -> None:
    listed = client.list_heads()
    (head,), (index,) = listed.heads, listed.indexes
    assert (head.head, head.version, head.kind, head.aliases) == ("topic", 3, "single_label", ("prod",))
    assert head.created_at == datetime(2023, 11, 14, 22, 13, 20, tzinfo=UTC)
    assert head.metrics == {"accuracy": 0.97}
    assert (index.index, index.items, index.kind) == ("articles", 2127, "flat")


def test_savings_reports_totals_groups_and_assumptions(server: Any, client: Any) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    report = client.savings(start=start, group_by="client", task="ranking", client="demo")
    (request,) = server.requests("GetSavings")
    assert request.start_time.ToDatetime(tzinfo=UTC) == start
    assert not request.HasField("end_time")
    assert request.group_by == savings_service_pb2.SAVINGS_GROUP_CLIENT
    assert (request.task, request.client) == ("ranking", "demo")
    assert (report.total.contents_asked, report.total.cache_hits, report.total.encodes) == (10, 6, 4)
    assert (report.total.contents_unique.value, report.total.contents_unique.basis) == (4, "estimated")
    assert report.total.energy is None
    assert (report.rows[0].group, report.assumptions, report.end) == ("ranking", ("none",), None)


def test_savings_are_grouped_by_task_unless_told_otherwise(server: Any, client: Any) -> None:
    client.savings()
    client.savings(group_by="")
    groups = [request.group_by for request in server.requests("GetSavings")]
    assert groups == [savings_service_pb2.SAVINGS_GROUP_TASK, savings_service_pb2.SAVINGS_GROUP_UNSPECIFIED]


def test_operators_calls_answer(server: Any, connect: Any) -> None:
    client = connect(max_request_items=2)
    listed = client.spaces()
    assert (listed.spaces[0].name, listed.spaces[0].modalities) == ("default@1", ("text", "image"))
    assert listed.aliases == {"default": "default@1"}
    assert client.set_alias("default", "default@2") == "default@0"
    assert client.cache_stats().path == "cache"
    assert client.limits() == {"max_text_bytes": 1_000_000}
    assert client.delete([hash_text("a"), hash_text("b"), hash_text("c")], space="default") == 3
    assert sorted(len(request.content_hashes) for request in server.requests("DeleteContents")) == [32, 64]
