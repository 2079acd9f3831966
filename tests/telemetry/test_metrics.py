"""What a scrape says after real calls."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from embedder.config import load_settings
from embedder.errors import ConfigurationError
from embedder.server.service import Service
from embedder.telemetry.catalogue import CATALOGUE
from embedder.telemetry.metric import Kind
from embedder_client import Client, errors, hash_texts

from .conftest import Samples, Watched, wait_until

_SPACE = ("space", "default@1")


def _grown(before: Samples, after: Samples, name: str, **labels: str) -> float:
    key = (name, tuple(sorted(labels.items())))
    return after.get(key, 0) - before.get(key, 0)


def test_every_metric_follows_the_naming_rules() -> None:
    names = [metric.name for metric in CATALOGUE]
    assert len(set(names)) == len(names)
    for metric in CATALOGUE:
        assert metric.name.startswith("embedder_")
        assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER), metric.name
        assert not {"content", "hash", "task", "client", "tenant"} & set(metric.labels), metric.name
        assert not any(word in metric.name for word in ("_ms", "_milliseconds", "_kib", "_mib")), metric.name
        assert list(metric.bounds) == sorted(metric.bounds)


def test_a_call_is_counted_where_its_contents_came_from(watched: Watched, client: Client) -> None:
    before = watched.scrape()
    client.embed(["counted once", "counted twice"], durable=True)
    client.embed(["counted once", "counted twice"])
    client.lookup(hash_texts(["counted once", "not held"]))
    client.predict(["counted once"], heads=["topic"])
    failed = client.embed(["", "counted once"])
    after = watched.scrape()
    interactive = {"space": "default@1", "lane": "interactive"}
    assert len(failed.failures) == 1
    assert _grown(before, after, "embedder_items_total", source="computed", **interactive) == 2
    assert _grown(before, after, "embedder_items_total", source="cache", **interactive) == 5
    assert _grown(before, after, "embedder_items_total", source="failed", **interactive) == 1
    assert _grown(before, after, "embedder_item_failures_total", reason="INVALID_CONTENT", space="default@1") == 1
    embed = "embedder.v1.EmbeddingService/Embed"
    assert _grown(before, after, "embedder_requests_total", method=embed, outcome="OK") == 3
    assert _grown(before, after, "embedder_request_seconds_count", method=embed) == 3
    assert _grown(before, after, "embedder_heads_seconds_count", method="Predict") == 1
    assert _grown(before, after, "embedder_lookup_seconds_count", space="default@1") == 5
    assert _grown(before, after, "embedder_batch_items_sum", space="default@1", modality="text") == 2
    units, worked = "embedder_batch_units_sum", "embedder_worked_units_total"
    medium = {"space": "default@1", "modality": "text"}
    assert _grown(before, after, worked, **medium) == _grown(before, after, units, **medium) > 0  # packed: no padding
    assert _grown(before, after, "embedder_prepare_seconds_count", space="default@1", modality="text") == 2
    assert _grown(before, after, "embedder_queue_seconds_count", **interactive) == 2
    assert _grown(before, after, "embedder_device_seconds_total", modality="text", **interactive) > 0
    assert _grown(before, after, "embedder_cache_entries") == 2
    assert _grown(before, after, "embedder_ledger_encodes_total") == 2
    # Predict and the failed call count for a task each; what was asked by hash and not held is not counted.
    assert _grown(before, after, "embedder_ledger_contents_asked_total") == 8


def test_device_seconds_are_those_of_the_ledger(watched: Watched, client: Client) -> None:
    client.embed([f"device time, number {number}" for number in range(20)], durable=True)
    samples = watched.scrape()
    counted = sum(value for (name, _), value in samples.items() if name == "embedder_device_seconds_total")
    told = client.savings(group_by="").total.device_time
    assert told is not None
    assert counted == pytest.approx(told.value, rel=1e-6)
    assert samples["embedder_ledger_device_seconds_total", ()] == pytest.approx(told.value, rel=1e-9)


def test_refused_call_is_counted_by_its_reason(watched: Watched, client: Client) -> None:
    before = watched.scrape()
    with pytest.raises(errors.InvalidRequest):
        client.embed(["x"], dim=100_000)
    method = "embedder.v1.EmbeddingService/Embed"
    assert _grown(before, watched.scrape(), "embedder_requests_total", method=method, outcome="INVALID_REQUEST") == 1


def test_every_metric_but_those_of_rare_events_is_exported_after_a_call(watched: Watched, client: Client) -> None:
    client.predict(["everything is told"], heads=["topic"])
    wait_until(lambda: ("embedder_store_seconds_count", (_SPACE,)) in watched.scrape())
    names = {name for name, _ in watched.scrape()}
    rare = {"embedder_store_failures_total", "embedder_item_failures_total", "embedder_shadow_contents_total"}
    missing = [metric.name for metric in CATALOGUE if metric.name not in rare and not names & set(metric.series)]
    assert not missing
    assert "process_resident_memory_bytes" in names


def test_metrics_say_not_serving_until_the_service_is_ready(tmp_path: Path) -> None:
    service = Service(load_settings(listen_address="127.0.0.1:0", metrics_address="127.0.0.1:0", data_dir=tmp_path))
    service._start_web()
    try:
        assert Watched(service, None).scrape()["embedder_serving", ()] == 0  # type: ignore[arg-type]
    finally:
        service._close(grace_s=0)


def _status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_metrics_ask_for_the_token_that_calls_ask_for(tmp_path: Path) -> None:
    settings = load_settings(
        listen_address="127.0.0.1:0", metrics_address="127.0.0.1:0", data_dir=tmp_path, bearer_token="right"
    )
    service = Service(settings)
    service._start_web()
    try:
        url = service.web.metrics_url
        assert url is not None
        assert _status(url) == 401
        assert _status(url, Authorization="Bearer wrong") == 401
        assert _status(url, Authorization="Bearer right") == 200
    finally:
        service._close(grace_s=0)


def test_page_from_elsewhere_cannot_read_what_loopback_answers(watched: Watched) -> None:
    url = watched.service.web.metrics_url
    assert url is not None
    assert _status(url, Host="127.evil.example") == 421
    assert _status(url, Host="localhost:1234") == 200


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"metrics_address": "0.0.0.0:9464"}, "insecure-listen"),
        ({"metrics_address": "9464"}, "HOST:PORT"),
        ({"trace_sample_ratio": 2}, "less than or equal to 1"),
    ],
)
def test_wrong_setting_is_named(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        load_settings(**given)


def test_metrics_port_in_use_is_a_clear_error(watched: Watched, tmp_path: Path) -> None:
    url = watched.service.web.metrics_url
    assert url is not None
    taken = url.removeprefix("http://").removesuffix("/metrics")
    with pytest.raises(ConfigurationError, match=r"metrics_address=.* can't be bound"):
        Service(load_settings(listen_address="127.0.0.1:0", metrics_address=taken, data_dir=tmp_path)).start()
