"""Plans: what a source means is found out once, and a manifest never changes."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embedder.backfill.manifest import Manifest
from embedder.backfill.planning import AskedColumns
from embedder.errors import ConfigurationError, InvalidRequest
from embedder_client.content_hash import Modality
from tests.backfill.conftest import Workplace


def test_shards_cover_every_row_of_every_source_once(place: Workplace) -> None:
    place.write_lines("in/a.jsonl", [{"text": f"a{n}"} for n in range(7)])
    place.write_lines("in/sub/b.jsonl", [{"text": f"b{n}"} for n in range(3)])
    place.path("in/c.csv").write_text("id,text\n1,c\n")
    place.path("in/notes.docx").write_bytes(b"?")
    with place.plan(place.folder / "in", shard_rows=3) as manifest:
        shards = list(manifest.all_shards())
        assert [(shard.number, shard.row_offset, shard.rows) for shard in shards] == [
            (0, 0, 3),
            (1, 3, 3),
            (2, 6, 1),
            (3, 7, 1),
            (4, 8, 3),
        ]
        assert [manifest.source(shard.source).name for shard in shards] == ["a.jsonl"] * 3 + ["c.csv", "sub/b.jsonl"]
        assert (manifest.rows, manifest.shards, manifest.left_out) == (11, 5, 1)
        assert manifest.shard(3) == shards[3]


def test_files_of_media_are_rows_in_the_order_of_their_names(place: Workplace) -> None:
    for name in ("b.png", "a.jpg", "z/a.jpeg", "c.mp4", "d.jpg", ".hidden.jpg"):
        place.path(f"in/{name}").write_bytes(b"x")
    with place.plan(place.folder / "in", shard_rows=2) as manifest:
        assert [source.name for source in manifest.sources()] == ["a.jpg", "b.png", "c.mp4", "d.jpg", "z/a.jpeg"]
        assert [(shard.source, shard.sources) for shard in manifest.all_shards()] == [(0, 2), (2, 1), (3, 2)]
    with place.plan(place.folder / "in", kind=Modality.VIDEO) as manifest:
        assert [source.name for source in manifest.sources()] == ["c.mp4"]
        assert manifest.left_out == 4


def test_the_medium_of_a_column_is_found_in_its_first_values(place: Workplace) -> None:
    place.path("pictures/1.jpg").write_bytes(b"x")
    rows = [{"words": "", "file": None}, {"words": "a title", "file": "pictures/1.jpg"}]
    path = place.write_lines("rows.jsonl", rows)
    pq.write_table(pa.table({"raw": [b"bytes"], "hf": [{"bytes": b"x", "path": None}]}), place.path("rows.parquet"))
    for source, column, expected in (
        (path, "words", Modality.TEXT),
        (path, "file", Modality.IMAGE),
        (place.path("rows.parquet"), "raw", Modality.IMAGE),
        (place.path("rows.parquet"), "hf", Modality.IMAGE),
    ):
        with place.plan(source, column=column) as manifest:
            assert manifest.job.columns is not None
            assert manifest.job.columns.modality is expected
    with place.plan(path, post=["title=words", "picture=file", "again=file:text"]) as manifest:
        assert manifest.job.columns is not None
        assert [field.modality for field in manifest.job.columns.fields] == [
            Modality.TEXT,
            Modality.IMAGE,
            Modality.TEXT,
        ]


def test_the_same_question_is_the_same_job_and_a_changed_source_another(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": "one"}])
    with place.plan(path) as first, place.plan(path) as second, place.plan(path, shard_rows=5) as other:
        assert first.folder == second.folder
        assert other.folder != first.folder
    place.write_lines("rows.jsonl", [{"text": "one"}, {"text": "two"}])
    with place.plan(path) as changed:
        assert changed.folder != first.folder


def test_a_named_job_refuses_to_become_another(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": "one", "title": "two"}])
    place.plan(path, job="mine").close()
    place.plan(path, job="mine").close()
    with pytest.raises(ConfigurationError, match="--column"):
        place.plan(path, job="mine", column="title")
    with pytest.raises(ConfigurationError, match="sources"):
        place.plan(place.write_lines("more.jsonl", [{"text": "one"}]), job="mine")


def test_a_manifest_that_was_changed_is_refused(place: Workplace) -> None:
    path = place.write_lines("rows.jsonl", [{"text": "one"}])
    with place.plan(path) as manifest:
        folder = manifest.folder
    table = folder / "shards.arrow"
    kept = table.read_bytes()
    table.write_bytes(kept.replace(kept[200:201], bytes([kept[200] ^ 1]), 1))
    with pytest.raises(ConfigurationError, match="plan the job anew"):
        Manifest(folder)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (AskedColumns(column="titel"), "no column 'titel'; it has id, title"),
        (AskedColumns(), "name the column with --column; rows.jsonl has id, title"),
        (AskedColumns(fields=("title",)), "NAME=COLUMN"),
        (AskedColumns(fields=("a=title:sound",)), "the medium is one of text, image, video"),
        (AskedColumns(fields=("a=title", "a=id")), "same name"),
        (AskedColumns(column="title", fields=("a=title",)), "give one of the two"),
        (AskedColumns(modality=Modality.POST, column="title"), "a post needs its fields"),
        (AskedColumns(column="title", id_column="key"), "no column 'key'"),
    ],
)
def test_wrong_columns_are_refused_in_words_and_leave_nothing(
    place: Workplace, asked: AskedColumns, words: str
) -> None:
    path = place.write_lines("rows.jsonl", [{"id": 1, "title": "one"}])
    with pytest.raises(InvalidRequest) as refused:
        place.plan(path, column=asked.column, kind=asked.modality, post=asked.fields, item_id=asked.id_column)
    assert words in str(refused.value)
    assert not list((place.settings.data_dir / "backfill").iterdir())


def test_sources_that_are_none_are_refused_in_words(place: Workplace, tmp_path: Path) -> None:
    place.path("rows.jsonl.gz").write_bytes(b"x")
    place.path("rows.docx").write_bytes(b"x")
    for name, words in (
        ("rows.jsonl.gz", "zcat"),
        ("rows.docx", "no known kind"),
        ("nowhere", "no file and no folder"),
    ):
        with pytest.raises(InvalidRequest, match=words):
            place.plan(place.path(name))
    place.path("only/a.jpg").write_bytes(b"x")
    with pytest.raises(InvalidRequest, match="columns were named"):
        place.plan(place.folder / "only", column="text")


def test_a_file_that_lacks_a_column_is_refused_by_its_name(place: Workplace) -> None:
    place.path("in/a.csv").write_text("text\none\n")
    place.path("in/b.csv").write_text("words\ntwo\n")
    with pytest.raises(InvalidRequest, match=r"b\.csv has no column 'text'"):
        place.plan(place.folder / "in", column="text")


def test_files_of_a_job_are_for_their_owner_alone(place: Workplace) -> None:
    with place.plan(place.write_lines("rows.jsonl", [{"text": "one"}])) as manifest:
        assert os.stat(manifest.folder).st_mode & 0o077 == 0
