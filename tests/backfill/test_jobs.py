"""Jobs from the first run to the last: what is done stays done, what is bad fails alone, what is held is never computed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from embedder.backfill.coordinator import TooManyRejects
from embedder.backfill.job import Outputs
from embedder.backfill.job_folder import working_on
from embedder.backfill.job_runner import RunOptions
from embedder.backfill.job_status import read_status
from embedder.backfill.journal import Journal
from embedder.backfill.verifying import verify_job
from embedder.encoders.base import EncoderInfo, Tokens
from embedder.errors import ConfigurationError
from embedder.savings.ledger_file import LedgerFile
from embedder.savings.usage import Slice
from embedder_cache import VectorCache, space_key
from embedder_client.content_hash import Modality, hash_texts
from embedder_heads.index.library import IndexLibrary
from tests.backfill.conftest import Workplace, rejects_of, totals
from tests.clips import BIKES, clip_path
from tests.engine.conftest import DIM, vector_of


def expected(texts: Sequence[str]) -> np.ndarray:
    return np.stack([vector_of(text.encode()) for text in texts]).astype(np.float16)


def test_every_text_is_in_the_cache_and_encoded_once(place: Workplace) -> None:
    texts = [f"text {number % 70}" for number in range(100)]  # some stand in two shards, some twice in one
    with place.plan(place.write_lines("rows.jsonl", [{"text": one} for one in texts]), shard_rows=9) as manifest:
        end = place.run(manifest)
        done = totals(manifest)
    assert end.is_complete
    assert place.encoder.encodes == 70
    assert (done.rows, done.computed, done.rejected) == (100, 70, 0)
    assert done.joined + done.held == 30
    key = space_key((place.settings.data_dir / "domain.key").read_bytes(), place.encoder.info.space_digest, DIM)
    with VectorCache.open(place.settings.cache_path, read_only=True) as cache:
        found = cache.get_many(key, hash_texts(texts))
    assert found.found.all()
    assert np.array_equal(found.vectors, expected(texts))


def test_a_second_run_asks_and_computes_nothing_and_loads_no_model(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": f"text {number}"} for number in range(50)])
    with place.plan(path) as manifest:
        place.run(manifest)
        assert place.run(manifest).was_done
        again = place.run(manifest, again=True)
        assert (again.was_done, again.is_complete) == (False, True)
        assert totals(manifest).held == 50
    with place.plan(path, job="other", item_id="text") as other:
        place.run(other)
        assert totals(other).held == 50
    assert place.encoder.encodes == 50
    assert place.loads == 2  # the first run's, and that of a job that was pinned to no space yet


def test_bad_rows_are_rejected_with_their_reason_and_stop_nothing(place: Workplace) -> None:
    poison = "poison"

    def fail(tokens: Sequence[Tokens]) -> None:
        if any(bytes(row.astype(np.uint8)) == poison.encode() for row in tokens):
            raise RuntimeError("the device chokes")

    place.encoder.on_encode = fail
    rows: list[dict[str, object] | str] = [{"id": f"good {n}", "text": f"text {n}"} for n in range(20)]
    rows += [{"id": "null", "text": None}, {"id": "number", "text": 7}, {"id": "blank", "text": " "}, "{"]
    rows += [{"id": "poison", "text": poison}, {"id": "poison again", "text": poison}]
    with place.plan(place.write_lines("rows.jsonl", rows), item_id="id", shard_rows=25) as manifest:
        place.run(manifest)
        done, reasons = totals(manifest), rejects_of(manifest)
    assert (done.computed, done.rejected) == (20, 6)
    assert "the value is empty" in reasons["null"]
    assert "the text is int" in reasons["number"]
    assert "white space" in reasons["blank"]
    assert "no JSON" in reasons["rows.jsonl#23"]
    assert "the device chokes" in reasons["poison"]
    assert "the device chokes" in reasons["poison again"]


def test_too_many_rejects_stop_the_job_where_that_was_asked(place: Workplace) -> None:
    rows = [{"text": None}] * 5 + [{"text": f"text {n}"} for n in range(20)]
    with place.plan(place.write_lines("rows.jsonl", rows), shard_rows=5) as manifest:
        with pytest.raises(TooManyRejects, match="max_rejects=3"):
            place.run(manifest, max_rejects=3)
        assert totals(manifest).rejected == 5
        place.run(manifest, max_rejects=5)
        assert totals(manifest).rows == 25


def test_a_run_that_broke_goes_on_without_repeating_what_is_done(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": f"text {number:03}"} for number in range(60)])

    def stop_at(tokens: Sequence[Tokens]) -> None:
        if place.encoder.encodes >= 25:
            raise SystemExit  # no error of a content: the process ends here

    place.encoder.on_encode = stop_at
    with place.plan(path, shard_rows=10) as manifest:
        with pytest.raises(SystemExit):
            place.run(manifest)
        first = place.encoder.encodes
        assert read_status(manifest, place.settings).state.startswith("SystemExit")
        place.encoder.on_encode = None
        place.run(manifest)
        assert totals(manifest).rows == 60
        assert read_status(manifest, place.settings).state == "finished"
    assert place.encoder.encodes == 60
    assert first < 60


def test_a_stopped_run_ends_what_is_under_way_and_goes_on_later(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": f"text {number:03}"} for number in range(200)])
    with place.plan(path, shard_rows=4) as manifest:
        runner = place.runner(manifest)
        end = runner.run(on_done=lambda done: runner.stop())
        assert not end.is_complete
        assert 0 < totals(manifest).rows < 200
        assert read_status(manifest, place.settings).state == "stopped"
        assert place.run(manifest).is_complete
    assert place.encoder.encodes == 200


def test_outputs_hold_each_row_in_its_place_after_a_broken_run_too(place: Workplace, tmp_path: Path) -> None:
    texts = [f"text {number:02}" for number in range(30)]
    rows: list[dict[str, object]] = [{"id": f"id {n}", "text": one} for n, one in enumerate(texts)]
    rows[11]["text"] = None
    outputs = Outputs(parquet=str(tmp_path / "out"), npy=str(tmp_path / "all.npy"), index="texts")
    with place.plan(place.write_lines("rows.jsonl", rows), item_id="id", shard_rows=7, outputs=outputs) as manifest:
        runner = place.runner(manifest)
        runner.run(on_done=lambda done: runner.stop())
        end = place.run(manifest)
    assert len(end.outputs) == 3
    vectors = expected(texts)
    vectors[11] = 0
    assert np.array_equal(np.load(tmp_path / "all.npy"), vectors)
    assert (tmp_path / "all.npy.ids.txt").read_text().splitlines() == [f"id {n}" for n in range(30)]
    table = pq.read_table(sorted((tmp_path / "out").glob("*.parquet")))
    kept = [n for n in range(30) if n != 11]
    assert table["id"].to_pylist() == [f"id {n}" for n in kept]
    assert np.array_equal(np.array(table["vector"].to_pylist(), np.float16), vectors[kept])
    assert table["content_hash"].to_pylist()[0] == hash_texts(texts[:1])
    index = IndexLibrary(place.settings.indexes_path).open("texts")
    assert len(index) == 29
    index.check_space(place.encoder.info.space_digest)
    assert not (manifest.folder / "index").exists()


def test_posts_are_made_of_parts_that_are_computed_once(place: Workplace) -> None:
    for number in range(3):
        place.path(f"pictures/{number}.jpg").write_bytes(bytes([number]) * 10)
    rows = [
        {"id": n, "title": f"title {n}", "tag": f"tag {n % 2}", "picture": f"pictures/{n % 3}.jpg" if n % 4 else None}
        for n in range(12)
    ]
    rows.append({"id": "gone", "title": "t", "tag": "tag 0", "picture": "pictures/9.jpg"})
    rows.append({"id": "nothing", "title": None, "tag": "", "picture": None})
    path = place.write_lines("rows.jsonl", rows)
    fields = ["title=title", "tag=tag", "picture=picture:image"]
    with place.plan(path, post=fields, item_id="id", shard_rows=5) as manifest:
        place.run(manifest)
        done, reasons = totals(manifest), rejects_of(manifest)
        assert (done.computed + done.held + done.joined, done.rejected) == (12, 2)
        encodes = place.encoder.encodes
        assert "field 'picture'" in reasons["gone"]
        assert "no fields" in reasons["nothing"]
        verified = verify_job(manifest, place.settings, RunOptions(), load=lambda settings, stack: place.encoder)
        assert (verified.present, verified.rejected, verified.missing) == (12, 2, 0)
        place.run(manifest, again=True)
        assert place.encoder.encodes - encodes <= _warm_up_encodes()
        assert totals(manifest).held == 12


def _warm_up_encodes() -> int:
    """How many made-up contents the engine's warm-up encodes, for verifying and for the second run."""
    return 2 * 2 * 3 * (1 + 8)


def test_videos_of_a_folder_are_understood_frame_by_frame(place: Workplace) -> None:
    place.path("in/bikes.mp4").write_bytes(clip_path(BIKES).read_bytes())
    place.path("in/broken.mp4").write_bytes(b"no video")
    with place.plan(place.folder / "in") as manifest:
        place.run(manifest)
        done, reasons = totals(manifest), rejects_of(manifest)
        assert (done.rows, done.rejected) == (2, 1)
        assert done.encodes > 1
        assert list(reasons) == ["broken.mp4"]
        place.run(manifest, again=True)
        assert totals(manifest).held == 1


def test_images_come_as_bytes_paths_and_files(place: Workplace) -> None:
    place.path("in/pictures/a.jpg").write_bytes(b"a picture")
    place.path("in/rows.jsonl").write_text('{"picture": "pictures/a.jpg"}\n{"picture": "http://example.com/b.jpg"}\n')
    with place.plan(place.folder / "in", column="picture", kind=Modality.IMAGE) as manifest:
        place.run(manifest)
        done, reasons = totals(manifest), rejects_of(manifest)
    assert (done.rows, done.computed, done.rejected) == (3, 1, 1)
    assert place.encoder.encodes == 1
    assert "nothing is fetched" in reasons["rows.jsonl#1"]


def test_a_source_that_was_changed_is_refused_not_misread(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": "one"}])
    with place.plan(path) as manifest:
        place.write_lines("rows.jsonl", [{"text": "another one"}])
        with pytest.raises(ConfigurationError, match="changed since the job was planned"):
            place.run(manifest)


def test_a_job_never_mixes_two_spaces(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": f"text {n}"} for n in range(200)])
    with place.plan(path, shard_rows=5) as manifest:
        runner = place.runner(manifest)
        assert not runner.run(on_done=lambda done: runner.stop()).is_complete
        info = place.encoder.info
        place.encoder.info = EncoderInfo(
            **{name: getattr(info, name) for name in info.__slots__} | {"identity": {"model": "another"}}
        )
        with pytest.raises(ConfigurationError, match="start another job"):
            place.run(manifest)


def test_one_process_works_on_a_job_and_on_a_cache(place: Workplace) -> None:
    with place.plan(place.write_lines("rows.jsonl", [{"text": "one"}])) as manifest:
        with working_on(manifest.folder), pytest.raises(ConfigurationError, match="another process works on this job"):
            place.run(manifest)
        with VectorCache.open(place.settings.cache_path), pytest.raises(ConfigurationError, match="--target"):
            place.run(manifest)
        assert place.run(manifest).is_complete


def test_verify_lists_what_is_missing_and_again_brings_it_back(place: Workplace) -> None:
    texts = [f"text {number}" for number in range(30)]
    rows: list[dict[str, object]] = [{"text": one} for one in texts]
    with place.plan(place.write_lines("rows.jsonl", [*rows, {"text": None}]), shard_rows=8) as manifest:
        place.run(manifest)
        key = space_key((place.settings.data_dir / "domain.key").read_bytes(), place.encoder.info.space_digest, DIM)
        with VectorCache.open(place.settings.cache_path) as cache:
            assert cache.delete_many(key, hash_texts(texts[7:9])) == 2
        found = verify_job(manifest, place.settings, RunOptions())
        assert (found.rows, found.present, found.rejected, found.missing) == (31, 28, 1, 2)
        assert found.file is not None
        assert '"id": "rows.jsonl#8"' in found.file.read_text()
        place.run(manifest, again=True)
        assert verify_job(manifest, place.settings, RunOptions()).missing == 0
        assert totals(manifest).computed == 2


def test_usage_stands_in_the_ledger_as_bulk_work_of_the_job(place: Workplace) -> None:
    with place.plan(place.write_lines("rows.jsonl", [{"text": f"text {n}"} for n in range(40)])) as manifest:
        place.run(manifest)
        place.run(manifest, again=True)
        task = f"backfill {manifest.folder.name}"
        ledger = LedgerFile(place.settings.ledger_path)
        counts = ledger.totals(Slice(task=task, client="backfill", lane="bulk", space="default@1"))[()]
        assert (counts.asked, counts.encodes, counts.cache_hits) == (80, 40, 40)
        assert counts.unshared_ns >= counts.device_ns > 0
        status = read_status(manifest, place.settings)
        assert status.spent_s is not None
        assert status.saved_s is not None
        assert status.runs == 2


def test_a_journal_can_be_read_while_the_job_runs(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": f"text {n:03}"} for n in range(60)])
    states: list[tuple[str, int]] = []
    with place.plan(path, shard_rows=10) as manifest:
        place.runner(manifest).run(on_done=lambda done: states.append(_seen(manifest.folder)))
    assert [rows for _, rows in states] == [10, 20, 30, 40, 50, 60]
    assert {state for state, _ in states} == {"running"}


def _seen(folder: Path) -> tuple[str, int]:
    journal = Journal(folder)
    run = journal.last_run()
    assert run is not None
    return ("running" if run.is_running else run.outcome), journal.totals()[1].rows


def test_a_commit_that_fails_ends_the_job_and_notes_nothing_as_done(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embedder_cache.committing import Committer

    def fail(*arguments: object, **options: object) -> None:
        raise OSError("no space left on device")

    with place.plan(place.write_lines("rows.jsonl", [{"text": "one"}])) as manifest:
        with monkeypatch.context() as broken:
            broken.setattr(Committer, "commit", fail)
            with pytest.raises(Exception, match="could not be stored"):
                place.run(manifest)
        assert totals(manifest).rows == 0
        assert place.run(manifest).is_complete


def test_threads_end_when_the_records_are_given_up(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": f"text {n:03}"} for n in range(100)])

    def interrupt(done: object) -> None:
        raise KeyboardInterrupt

    with place.plan(path, shard_rows=5) as manifest:
        with pytest.raises(KeyboardInterrupt):
            place.runner(manifest).run(on_done=interrupt)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("backfill")]
        assert place.run(manifest).is_complete


def test_a_journal_line_is_on_the_disk_when_the_call_returns(place: Workplace) -> None:
    with place.plan(place.write_lines("rows.jsonl", [{"text": "one"}])) as manifest:
        place.run(manifest)
        with closing(sqlite3.connect(manifest.folder / "journal.sqlite")) as connection:
            assert connection.execute("SELECT COUNT(*) FROM done").fetchone() == (1,)
