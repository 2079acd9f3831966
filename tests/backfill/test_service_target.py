"""Through a running service: in its bulk lane, by hash first, and made there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from embedder.backfill.job import Job, Outputs
from embedder.backfill.job_folder import open_or_plan
from embedder.backfill.job_runner import JobRunner, RunEnd, RunOptions
from embedder.backfill.manifest import Manifest
from embedder.backfill.planning import AskedColumns
from embedder.backfill.verifying import verify_job
from embedder.config import load_settings
from embedder.errors import ConfigurationError, UnknownSpace
from embedder.savings.usage import Slice
from embedder.server.runtime import Runtime
from embedder.server.service import Service
from embedder_client import Client, Image, Post
from tests.backfill.conftest import Workplace, rejects_of, totals
from tests.server.pictures import as_file, photo


@dataclass(frozen=True)
class Running:
    """A started service."""

    runtime: Runtime
    address: str


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    settings = load_settings(
        listen_address="127.0.0.1:0",
        data_dir=tmp_path_factory.mktemp("service"),
        cache_limit_bytes="64 MiB",
        drain_grace_ms=1_000,
    )
    service = Service(settings)
    yield Running(service.start(), service.address)
    service.stop()


@pytest.fixture(scope="module")
def picture() -> bytes:
    return as_file(photo().resize((64, 48)), "JPEG")


def plan(place: Workplace, source: Path, service: Running, *, post: tuple[str, ...] = (), npy: str = "") -> Manifest:
    job = Job(
        sources=(str(source),),
        columns=None,
        model="default",
        precision="auto",
        space="default",
        shard_rows=6,
        outputs=Outputs(npy=npy),
        target=service.address,
    )
    asked = AskedColumns(fields=post, id_column="id")
    data_dir = place.settings.data_dir
    return open_or_plan(None, job, asked, data_dir=data_dir, on_progress=lambda size: None)


def carry_out(place: Workplace, manifest: Manifest, *, again: bool = False) -> RunEnd:
    return JobRunner(manifest, place.settings, RunOptions(again=again)).run()


def counts_of(service: Running, manifest: Manifest) -> tuple[int, int]:
    """Return what the service computed for a job, and what it answered from its cache."""
    part = Slice(task=f"backfill {manifest.folder.name}", client="backfill", lane="bulk")
    found = service.runtime.ledger.totals(part).get(())
    return (0, 0) if found is None else (found.encodes, found.cache_hits)


def test_texts_are_computed_by_the_service_in_its_bulk_lane(place: Workplace, service: Running, tmp_path: Path) -> None:
    rows = [{"id": n, "text": f"A sentence for the service, number {n % 15}."} for n in range(20)]
    rows.append({"id": "blank", "text": " "})
    npy = str(tmp_path / "all.npy")
    with plan(place, place.write_lines("rows.jsonl", rows), service, npy=npy) as manifest:
        assert carry_out(place, manifest).is_complete
        done = totals(manifest)
        assert (done.rows, done.rejected) == (21, 1)
        assert "white space" in rejects_of(manifest)["blank"]
        encodes, _ = counts_of(service, manifest)
        assert encodes == 15
        with Client(service.address) as client:
            answer = client.embed([str(row["text"]) for row in rows[:20]])
        assert set(answer.sources) == {"cache"}
        assert np.array_equal(np.load(npy)[:20], answer.vectors)
        assert not place.settings.cache_path.exists()

        carry_out(place, manifest, again=True)
        assert totals(manifest).held == 20
        assert counts_of(service, manifest)[0] == 15
        found = verify_job(manifest, place.settings, RunOptions())
        assert (found.present, found.rejected, found.missing) == (20, 1, 0)


def test_posts_are_made_by_the_service(place: Workplace, service: Running, picture: bytes) -> None:
    place.path("cat.jpg").write_bytes(picture)
    rows = [{"id": n, "title": f"A post about cats, number {n}.", "picture": "cat.jpg"} for n in range(3)]
    path = place.write_lines("posts.jsonl", rows)
    with plan(place, path, service, post=("title=title", "picture=picture:image")) as manifest:
        carry_out(place, manifest)
        assert totals(manifest).computed == 3
    with Client(service.address) as client:
        post = Post({"title": "A post about cats, number 1.", "picture": Image(picture)})
        assert client.embed([post]).sources == ["cache"]


def test_a_space_that_is_not_served_is_refused_in_words(place: Workplace, service: Running) -> None:
    path = place.write_lines("rows.jsonl", [{"id": 1, "text": "one"}])
    with plan(place, path, service) as manifest:
        other = manifest.job
        manifest.job = replace(other, space="nowhere@3")
        with pytest.raises(UnknownSpace, match="it serves default@1"):
            carry_out(place, manifest)


def test_a_service_of_another_space_than_the_jobs_is_refused(place: Workplace, service: Running) -> None:
    rows = [{"id": n, "text": f"Another sentence, number {n}."} for n in range(3)]
    with plan(place, place.write_lines("rows.jsonl", rows), service) as manifest:
        carry_out(place, manifest)
        pinned = manifest.folder / "space.json"
        text = pinned.read_text()
        pinned.write_text(text.replace(text[text.index('"digest": "') + 11 :][:4], "0000", 1))
        with pytest.raises(ConfigurationError, match="start another job"):
            carry_out(place, manifest, again=True)
