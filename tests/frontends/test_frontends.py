"""Two front-ends on one port: one encode for each content, the same vectors, exact figures, a drain without loss."""

from __future__ import annotations

import json
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedder.config import load_settings
from embedder.errors import ConfigurationError
from embedder.server.processes.listening import ReservedPort
from embedder_client import Client, ClientSettings, Image, ItemSource, Post, Video, hash_text, hash_video
from embedder_client import errors as client_errors
from tests.clips import BUNNY, clip

from .processes import Processes, running_processes, wait_until

NAMES = ("frontend-0", "frontend-1")


def _pictures(count: int) -> list[Image]:
    import io

    from PIL import Image as Picture
    from skimage import data

    photo = Picture.fromarray(data.chelsea())
    files = []
    for number in range(count):
        buffer = io.BytesIO()
        photo.rotate(number).save(buffer, "PNG")
        files.append(Image(buffer.getvalue()))
    return files


def test_same_contents_through_both_front_ends_at_once_are_encoded_once(service: Processes) -> None:
    texts = [f"asked through both, number {number}" for number in range(300)]
    with ExitStack() as stack:
        clients = [stack.enter_context(service.client_of(name)) for name in NAMES]
        before = clients[0].savings().total
        barrier = threading.Barrier(4)

        def ask(client: Client) -> np.ndarray:
            barrier.wait()
            result = client.embed(texts)
            result.raise_for_failures()
            return result.vectors

        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(ask, clients * 2))
        after = [client.savings().total for client in clients]
    assert after[0].encodes - before.encodes == 300
    assert after[0].contents_asked - before.contents_asked == 1_200
    hits = after[0].cache_hits + after[0].in_flight_hits - before.cache_hits - before.in_flight_hits
    assert hits == 900
    assert (after[1].encodes, after[1].contents_asked) == (after[0].encodes, after[0].contents_asked)
    assert all(np.array_equal(answers[0], answer) for answer in answers)


def test_vectors_are_those_of_one_process(service: Processes, tmp_path: Path) -> None:
    from embedder.encoders.load import load_encoder
    from embedder.media.limits import MediaLimits

    texts = [f"compared, number {number} " * (1 + number % 7) for number in range(20)]
    pictures = _pictures(6)
    encoder = load_encoder("default", limits=MediaLimits())
    alone = np.concatenate(
        [
            encoder.encode_texts_exact(encoder.prepare_texts(texts)),
            encoder.encode_images_exact([encoder.prepare_image(picture.data) for picture in pictures]),
        ]
    )
    encoder.close()
    with service.client_of("frontend-1") as client:
        result = client.embed([*texts, *pictures])
    result.raise_for_failures()
    vectors = result.vectors.astype(np.float32)
    cosines = (vectors * alone).sum(axis=1) / np.linalg.norm(vectors, axis=1)
    assert cosines.min() >= 0.9999


def test_bad_items_fail_alone(service: Processes) -> None:
    contents = ["fine", "x" * (65 << 10), Image(b"no image"), "fine too", hash_text("never sent to anybody")]
    with service.client_of("frontend-0") as client:
        result = client.embed(contents)
    assert sorted(failure.index for failure in result.failures) == [1, 2, 4]
    assert result.sources[0] is ItemSource.COMPUTED
    assert result.sources[3] is ItemSource.COMPUTED


def test_clips_and_posts_are_encoded_once_whichever_front_end_is_asked(service: Processes) -> None:
    video = Video(clip(BUNNY))
    post = Post({"title": "a rabbit in a meadow", "clip": video})
    with ExitStack() as stack:
        first, second = [stack.enter_context(service.client_of(name)) for name in NAMES]
        before = first.savings().total.encodes
        made = first.embed([video], segment_seconds=1, durable=True)
        made.raise_for_failures()
        assert len(made.segments[0].start_s) == 6
        assert second.savings().total.encodes - before == 6
        posted = second.embed([post], field_weights={"title": 2.0, "clip": 1.0})
        posted.raise_for_failures()
        assert first.savings().total.encodes - before == 7  # the title alone
        again = second.embed([video])
        assert again.sources == [ItemSource.CACHE]
        assert np.array_equal(again.vectors[0], made.vectors[0])
        assert first.delete([hash_video(video.data)]) == 1
        assert second.embed([video]).sources == [ItemSource.COMPUTED]  # its frames went with it


def test_usage_is_the_tenants_whichever_front_end_is_asked(service: Processes) -> None:
    asked = [f"a tenant's own, number {number}" for number in range(5)]
    for number in range(4):  # connections are spread over the front-ends
        settings = ClientSettings(client_name="tests", tenant="shop", timeout_s=60, keepalive_time_s=700.0 + number)
        with Client(service.target, settings=settings) as client:
            client.embed(asked).raise_for_failures()
            report = client.savings(group_by="tenant", tenant="shop")
    assert [row.group for row in report.rows] == ["shop"]
    assert (report.total.contents_asked, report.total.encodes, report.total.contents_unique.value) == (20, 5, 5)


def test_what_one_process_alone_serves_is_refused_at_the_start() -> None:
    with pytest.raises(ConfigurationError, match=r"answer_load.*frontends=1"):
        load_settings(frontends=2, answer_load="start")
    assert load_settings(answer_load="start").is_one_process


def test_metrics_add_up_over_all_processes_and_outlive_them(tmp_path: Path) -> None:
    # A service of its own: what was counted a moment ago by the tests before may not have been told yet.
    with running_processes(tmp_path / "service") as service:
        embed = {"method": "embedder.v1.EmbeddingService/Embed", "outcome": "OK"}
        for name in NAMES:
            with service.client_of(name) as client:
                client.embed([f"counted by {name}", f"and once more by {name}"], durable=True)
        # Each process tells what it counted once a second.
        wait_until(lambda: _told(service, "embedder_requests_total", **embed) == 2)
        wait_until(lambda: _told(service, "embedder_batch_items_sum", modality="text") == 4)  # by the engine's process
        assert _told(service, "embedder_ledger_encodes_total") == 4
        assert _told(service, "embedder_cache_entries") == 4
        assert _told(service, "embedder_serving") == 1
        service.kill("frontend-1")
        wait_until(service.is_healthy)
        assert _told(service, "embedder_requests_total", **embed) == 2


def _told(service: Processes, name: str, **labels: str) -> float:
    samples = (
        sample
        for family in text_string_to_metric_families(_get(f"{service.web}/metrics"))
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )
    return sum(sample.value for sample in samples)


def test_the_page_is_served_beside_several_front_ends(service: Processes) -> None:
    figures = json.loads(_get(f"{service.page}/api/savings?span=hour"))
    assert figures["service"]["device"] == "cpu"
    assert figures["times"]


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as reply:
        text: str = reply.read().decode()
    return text


def test_erasure_is_seen_by_every_front_end(service: Processes) -> None:
    with service.client_of(NAMES[0]) as first, service.client_of(NAMES[1]) as second:
        first.embed(["forget me", "keep me"], durable=True)
        assert second.embed(["forget me"]).sources == [ItemSource.CACHE]
        assert second.delete([hash_text("forget me"), hash_text("was never here")]) == 1
        assert first.embed(["forget me", "keep me"]).sources == [ItemSource.COMPUTED, ItemSource.CACHE]


def test_cache_statistics_add_up_over_all_processes(service: Processes) -> None:
    with service.client_of(NAMES[0]) as first, service.client_of(NAMES[1]) as second:
        before = first.cache_stats()
        first.embed(["counted once"], durable=True)
        second.embed(["counted once"])
        after = second.cache_stats()
        assert (after.hits - before.hits, after.misses - before.misses) == (1, 1)
        assert after.entries - before.entries == 1


def test_call_past_its_deadline_is_told_so_and_the_service_goes_on(service: Processes) -> None:
    with service.client_of(NAMES[0]) as client:
        with pytest.raises(client_errors.EmbedderClientError):
            client.embed([f"too much for the time, number {number} " * 20 for number in range(256)], timeout_s=0.05)
        assert client.embed(["in time"]).sources == [ItemSource.COMPUTED]


def test_supervisor_has_neither_torch_nor_grpc(service: Processes) -> None:
    for process in (service.supervisor, service.process("keeper-0")):
        mapped = " ".join(region.path for region in process.memory_maps())
        assert "libtorch" not in mapped
        assert "cygrpc" not in mapped
    assert "libtorch" in " ".join(region.path for region in service.process("engine-0").memory_maps())


def test_sigterm_lets_running_calls_end(tmp_path: Path) -> None:
    texts = [f"a rather long text that takes the encoder its time, number {number} " * 12 for number in range(128)]
    with ThreadPoolExecutor(2) as pool, ExitStack() as clients:
        # On a machine that is busy otherwise, this is more than the queue takes by default.
        with running_processes(tmp_path / "service", "--max-queue-ms", "60000") as service:
            running = []
            for number, name in enumerate(NAMES):
                client = clients.enter_context(service.client_of(name))
                running.append(pool.submit(client.embed, [f"{number} {text}" for text in texts]))
            with service.client_of(NAMES[0]) as watching:
                wait_until(lambda: watching.cache_stats().misses == 256)
            children = service.supervisor.children()
        # It was told to stop while the calls ran, and has ended with all its processes.
        for call in running:
            call.result().raise_for_failures()
        assert not any(child.is_running() for child in children)
    log = (tmp_path / "service/daemon.log").read_text()
    assert '"event": "stopped"' in log
    assert '"level": "error"' not in log


def test_port_that_another_process_has_is_a_clear_error(service: Processes) -> None:
    with pytest.raises(ConfigurationError, match="another process"):
        ReservedPort(service.target)


@pytest.mark.parametrize(("address", "words"), [("unix:/tmp/x.sock", "frontends 1"), ("127.0.0.1:port", "bound")])
def test_address_that_front_ends_cannot_share_is_a_clear_error(address: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        ReservedPort(address)


def test_devices_are_named_with_commas() -> None:
    assert load_settings(devices="cpu, cpu").device_list == ["cpu", "cpu"]
    assert not load_settings(devices="cpu,cpu").is_one_process
    assert load_settings().is_one_process
    with pytest.raises(ConfigurationError, match="commas"):
        load_settings(devices="cuda:0,,cuda:1")


def test_two_engines_share_the_contents_and_one_cache(tmp_path: Path) -> None:
    texts = [f"spread over two engines, number {number}" for number in range(64)]
    with running_processes(tmp_path / "service", "--devices", "cpu,cpu") as service:
        settings = ClientSettings(client_name="tests", timeout_s=60)
        with Client(service.target, settings=settings) as client:
            client.embed(texts, durable=True).raise_for_failures()
            assert set(client.embed(texts).sources) == {ItemSource.CACHE}
            assert client.savings().total.encodes == 64
            assert client.cache_stats().entries == 64
