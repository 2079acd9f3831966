"""One service with several spaces: each answers as itself, aliases move at once, and what can't be loaded changes nothing."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embedder.config import load_settings
from embedder.errors import ConfigurationError, SpaceConflict
from embedder.server.space_settings import one_space_of
from embedder.spaces.document import Shadow
from embedder.spaces.serving import read_serving
from embedder_client import Client, EmbedResult, ItemSource, SpaceState, errors, hash_texts

from .conftest import Desk, Start, wait_until

TEXTS = [f"text {number} of the migration" for number in range(24)]


def test_new_space_answers_beside_the_old_one(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    with desk.client() as client:
        before = client.embed(TEXTS)
        space = desk.create("default@2", models["new"])
        after, other = client.embed(TEXTS), client.embed(TEXTS, space="default@2")
        listed = client.spaces()
    assert space.state == "ready"
    assert np.array_equal(before.vectors, after.vectors)
    assert other.provenance.space_digest.hex() == space.digest != after.provenance.space_digest.hex()
    assert not np.array_equal(other.vectors, after.vectors)
    assert listed.aliases == {"default": "default@1"}
    assert [(one.name, one.state) for one in listed.spaces] == [
        ("default@1", SpaceState.SERVING),
        ("default@2", SpaceState.READY),
    ]


def test_set_alias_moves_at_once_and_outlives_a_restart(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    with desk.client() as client:
        assert client.set_alias("default", "default@2", expected_space="default@1") == "default@1"
        assert client.embed(TEXTS[:1]).provenance.space == "default@2"
        with pytest.raises(errors.FailedPrecondition, match="points at default@2, not at default@1"):
            client.set_alias("default", "default@1", expected_space="default@1")
        with pytest.raises(errors.NotFound, match="default@9"):
            client.set_alias("default", "default@9")
        assert client.set_alias("preview", "default@1") == ""
    desk = start()
    with desk.client() as client:
        assert client.spaces().aliases == {"default": "default@2", "preview": "default@1"}
        assert client.embed(TEXTS[:1]).provenance.space == "default@2"
        assert client.embed(TEXTS[:1], space="preview").provenance.space == "default@1"


def test_model_that_can_not_be_loaded_is_refused_and_its_name_stays_free(
    start: Start, models: dict[str, Path], tmp_path: Path
) -> None:
    desk = start()
    with desk.client() as client:
        with pytest.raises(SpaceConflict, match="holds no model"):
            desk.create("default@2", tmp_path)
        assert client.embed(TEXTS[:1]).provenance.space == "default@1"
        with pytest.raises(errors.NotFound):
            client.embed(TEXTS[:1], space="default@2")
        assert desk.create("default@2", models["new"]).state == "ready"


def test_alias_does_not_point_at_a_space_that_is_not_ready(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    desk.spaces.registry.change(lambda d: d.with_row(d.row("default@2")))
    with desk.client() as client:
        with pytest.raises(errors.NotFound, match="there is no space 'default@3'"):
            client.set_alias("default", "default@3")


class Load:
    """Callers that never pause, and hold every answer against what each space gives."""

    def __init__(self, client: Client, truth: dict[str, EmbedResult]) -> None:
        self._client = client
        self._truth = {result.provenance.space: result for result in truth.values()}
        self.answers: dict[str, int] = {}
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()

    def run(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        while not self._stop.is_set():
            rows = generator.permutation(len(TEXTS))[: generator.integers(1, len(TEXTS))]
            try:
                result = self._client.embed([TEXTS[row] for row in rows])
                self._check(result, rows)
            except Exception as error:  # noqa: BLE001 - counted, whatever it is
                self.failures.append(repr(error))

    def stop(self) -> None:
        self._stop.set()

    def seen(self, space: str) -> int:
        return self.answers.get(space, 0)

    def _check(self, result: EmbedResult, rows: np.ndarray) -> None:
        truth = self._truth[result.provenance.space]
        assert result.provenance.space_digest == truth.provenance.space_digest
        assert not result.failures
        assert np.array_equal(result.vectors, truth.vectors[rows]), "an answer mixes spaces"
        with self._lock:
            self.answers[result.provenance.space] = self.seen(result.provenance.space) + 1


def test_alias_goes_there_and_back_under_load_without_a_failure_or_a_mixed_answer(
    start: Start, models: dict[str, Path]
) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    with desk.client() as client:
        truth = {name: client.embed(TEXTS, space=name, durable=True) for name in ("default@1", "default@2")}
        load = Load(client, truth)
        with ThreadPoolExecutor(4) as pool:
            running = [pool.submit(load.run, seed) for seed in range(4)]
            try:
                for turn in range(20):
                    here = "default@1" if turn % 2 else "default@2"
                    seen = load.seen(here)
                    client.set_alias("default", here)
                    wait_until(lambda here=here, seen=seen: load.seen(here) > seen + 5, what=f"no answer from {here}")
            finally:
                load.stop()
            for future in running:
                future.result()
    assert not load.failures
    assert min(load.answers.values()) > 50


def test_call_that_is_split_is_answered_in_one_space(start: Start, models: dict[str, Path]) -> None:
    from embedder_client import ClientSettings

    desk = start()
    desk.create("default@2", models["new"])
    settings = ClientSettings(max_request_items=2, max_requests_in_flight=2, timeout_s=60)
    with Client(desk.service.address, settings=settings) as client, desk.client() as mover:
        truth = {name: client.embed(TEXTS, space=name, durable=True) for name in ("default@1", "default@2")}
        stop = threading.Event()

        def swing() -> None:
            while not stop.is_set():
                for name in ("default@2", "default@1"):
                    mover.set_alias("default", name)

        thread = threading.Thread(target=swing)
        thread.start()
        try:
            for _ in range(60):
                result = client.embed(TEXTS)
                assert np.array_equal(result.vectors, truth[result.provenance.space].vectors)
        finally:
            stop.set()
            thread.join()


def test_stream_stays_in_the_space_that_it_began_in(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    with desk.client() as client:

        def batches():  # type: ignore[no-untyped-def]
            for number in range(40):
                if number == 20:
                    client.set_alias("default", "default@2")
                yield [TEXTS[number % len(TEXTS)]]

        spaces = {result.provenance.space for result in client.embed_stream(batches())}
        assert client.embed(TEXTS[:1]).provenance.space == "default@2"
    assert spaces == {"default@1"}


def test_one_call_asks_old_and_new_at_once(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    with desk.client() as client:
        truth = {name: client.embed(TEXTS, space=name, durable=True) for name in ("default@1", "default@2")}
        both = client.embed([*TEXTS, ""], additional_spaces=["default@2"])
        assert [one.provenance.space for one in (both, *both.additional)] == ["default@1", "default@2"]
        for result in (both, *both.additional):
            assert np.array_equal(result.vectors[:-1], truth[result.provenance.space].vectors)
            assert [failure.index for failure in result.failures] == [len(TEXTS)]
        by_hash = client.embed(TEXTS, additional_spaces=["default@2"], by_hash=True)
        assert np.array_equal(by_hash.additional[0].vectors, truth["default@2"].vectors)
        client.embed(["held in the first alone"], durable=True)
        held = client.lookup(hash_texts([*TEXTS, "held in the first alone"]), additional_spaces=["default@2"])
        assert held.wanted == []
        assert held.additional[0].wanted == [len(TEXTS)]
        half = client.embed(["held in the first alone"], additional_spaces=["default@2"], by_hash=True)
        assert half.additional[0].sources == [ItemSource.COMPUTED]
        with pytest.raises(errors.InvalidRequest, match="asks already"):
            client.embed(TEXTS, additional_spaces=["default"])


def test_shadow_computes_a_stable_sample_in_the_bulk_lane(start: Start, models: dict[str, Path]) -> None:
    desk = start(metrics_address="127.0.0.1:0")
    desk.create("default@2", models["new"])
    desk.spaces.shadow("default@2", Shadow("default", 0.5))
    texts = [f"shadowed text {number}" for number in range(200)]
    numbers = [int.from_bytes(hash_texts([text])[:8], "big") for text in texts]
    sample = [text for text, number in zip(texts, numbers, strict=True) if number < 2**63]
    wait_until(
        lambda: desk.runtime.spaces.shadows_of(desk.runtime.spaces.resolve("")), what="the shadow was not picked up"
    )
    with desk.client() as client:
        client.embed(texts)
        client.embed(texts)
        wait_until(
            lambda: not client.lookup(hash_texts(sample), space="default@2").wanted, what="the sample was not computed"
        )
        held = client.lookup(hash_texts(texts), space="default@2").found
        usage = client.savings(group_by="task")
    assert [text for text, is_held in zip(texts, held, strict=True) if is_held] == sample
    [row] = [row for row in usage.rows if row.group == "shadow"]
    assert (row.encodes, row.contents_asked) == (len(sample), 0)
    lanes = {row.group: row.encodes for row in _savings_by_lane(desk)}
    assert lanes == {"interactive": len(texts), "bulk": len(sample)}


def _state(desk: Desk, name: str) -> str:
    report = read_serving(desk.data_dir)
    space = report.space_report(name) if report else None
    return str(space.state) if space else ""


def _savings_by_lane(desk):  # type: ignore[no-untyped-def]
    with desk.client() as client:
        return client.savings(group_by="lane").rows


def test_retired_space_is_closed_and_its_vectors_erased(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    with desk.client() as client:
        client.embed(TEXTS, additional_spaces=["default@2"], durable=True)
        with pytest.raises(SpaceConflict, match="alias default points at"):
            desk.spaces.retire("default@1", erase=True, wait_s=60)
        client.set_alias("default", "default@2")
        entries = client.cache_stats().entries
        assert desk.spaces.retire("default@1", erase=True, wait_s=60)
        with pytest.raises(errors.NotFound):
            client.embed(TEXTS, space="default@1")
        assert client.cache_stats().entries == entries - len(TEXTS)
        assert set(client.embed(TEXTS).sources) == {ItemSource.CACHE}
        with pytest.raises(errors.NotFound, match="was retired"):
            client.set_alias("default", "default@1")
    assert {thread.name for thread in threading.enumerate() if thread.name == "device"} <= {"device"}
    document = desk.spaces.document()
    assert [row.erase for row in document.spaces] == [False, False]


def test_call_that_began_in_a_retired_space_ends_there(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    with desk.client() as client:
        held = desk.runtime.spaces.resolve("default@1")
        client.set_alias("default", "default@2")
        assert not desk.spaces.retire("default@1", erase=False, wait_s=0.3), "a call holds it still"
        from embedder.engine.contents import ContentItem, EmbedOptions
        from embedder_client.content_hash import Modality, hash_text

        item = ContentItem(hash_text("asked late"), Modality.TEXT, "asked late")
        import time

        outcome = held.engine.embed([item], EmbedOptions(deadline=time.monotonic() + 60))
        assert not outcome.failures
        del held
        wait_until(
            lambda: read_serving(desk.data_dir).space_report("default@1") is None,  # type: ignore[union-attr]
            what="the space was not closed",
        )


def test_damaged_registry_changes_nothing_that_is_served(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    good = desk.spaces.registry.path.read_bytes()
    desk.spaces.registry.path.write_text("{")
    wait_until(lambda: read_serving(desk.data_dir).refused, what="nothing was said")  # type: ignore[union-attr]
    with desk.client() as client:
        assert client.embed(TEXTS[:1], space="default@2").provenance.space == "default@2"
        with pytest.raises(SpaceConflict, match="does not follow"):
            desk.spaces.serving()
        desk.spaces.registry.path.write_bytes(good)
        wait_until(lambda: not read_serving(desk.data_dir).refused, what="it was not followed again")  # type: ignore[union-attr]
        client.set_alias("default", "default@2")


def test_other_weights_under_the_same_name_are_refused_at_the_start(
    start: Start, models: dict[str, Path], tmp_path: Path
) -> None:
    import shutil

    model = tmp_path / "model"
    shutil.copytree(models["new"], model)
    desk = start()
    desk.create("default@2", model)
    with desk.client() as client:
        client.set_alias("default", "default@2")
    desk.service.stop()
    shutil.copyfile(models["third"] / "model.safetensors", model / "model.safetensors")
    with pytest.raises(ConfigurationError, match="Create a new version"):
        start()


def test_settings_that_contradict_the_registry_are_refused(start: Start, models: dict[str, Path]) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    desk.service.stop()
    with pytest.raises(ConfigurationError, match="embedder-spaces create"):
        start(model=str(models["third"]))
    with pytest.raises(ConfigurationError, match="default@1, default@2"):
        start(space="default@7")


def test_service_of_several_processes_refuses_a_registry_of_several_spaces(
    start: Start, models: dict[str, Path]
) -> None:
    desk = start()
    desk.create("default@2", models["new"])
    desk.service.stop()
    with pytest.raises(ConfigurationError, match="default@1, default@2"):
        one_space_of(load_settings(data_dir=desk.data_dir, frontends=2))
    desk = start()
    wait_until(lambda: _state(desk, "default@2") == "ready", what="the other space was not loaded")
    with desk.client() as client:
        client.set_alias("default", "default@2")
    desk.service.stop()
    desk.spaces.retire("default@1", erase=False, wait_s=60)
    settings = one_space_of(load_settings(data_dir=desk.data_dir, frontends=2))
    assert (settings.space, settings.model) == ("default@2", str(models["new"]))
