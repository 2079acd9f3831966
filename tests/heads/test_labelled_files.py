"""Labelled files: every format reads the same, repeats are folded, and every fault names its row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from embedder_client import Image, Post, Text
from embedder_client.content_hash import hash_image, hash_post, hash_text
from embedder_heads import Task
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.training.items import read_items
from embedder_heads.training.table import Columns, read_labelled

ROWS: list[dict[str, object]] = [
    {"text": 'goal, "late"', "label": "sport"},
    {"text": "vote\ntoday", "label": "politics"},
    {"text": 'goal, "late"', "label": "sport"},
    {"text": "vote\ntoday", "label": "sport"},
]


def _write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_every_format_reads_the_same_and_repeats_are_folded(tmp_path: Path, ending: str) -> None:
    table = read_labelled(_write(tmp_path / f"rows.{ending}", ROWS), Columns(), task=Task.SINGLE_LABEL)
    assert table.contents == (Text('goal, "late"'), Text("vote\ntoday"))
    assert table.hashes == (hash_text('goal, "late"'), hash_text("vote\ntoday"))
    assert table.given == ("sport", "politics")
    assert (table.repeats, table.conflicts) == (1, (4,))


def test_several_labels_come_as_a_list_or_a_separated_text(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"text": "a", "label": ["x", "y"]},
        {"text": "b", "label": []},
        {"text": "c", "label": "y; x;"},
    ]
    path = _write(tmp_path / "rows.jsonl", rows)
    table = read_labelled(path, Columns(separator=";"), task=Task.MULTI_LABEL)
    assert table.given == (("x", "y"), (), ("x", "y"))


def test_numbers_are_read_as_numbers(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.csv", [{"text": "a", "label": "1.5"}, {"text": "b", "label": "-2"}])
    assert read_labelled(path, Columns(), task=Task.REGRESSION).given == (1.5, -2.0)


def test_images_and_posts_are_read_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"png")
    rows: list[dict[str, object]] = [
        {"caption": "a cat", "picture": "cat.png", "kind": "post"},
        {"caption": "", "picture": "cat.png", "kind": "image"},
        {"caption": "a cat", "picture": "", "kind": "text"},
    ]
    path = _write(tmp_path / "rows.csv", rows)
    table = read_labelled(path, Columns("caption", "picture", "kind"), task=Task.SINGLE_LABEL)
    post, image, text = table.contents
    assert (image, text) == (Image(b"png"), Text("a cat"))
    assert isinstance(post, Post)
    assert table.hashes[0] == hash_post({"text": hash_text("a cat"), "image": hash_image(b"png")})


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("rows.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"', "line 2 is not JSON"),
        ("rows.jsonl", '{"text": "a", "label": "x"}\n[]', "line 2 is no JSON object"),
        ("rows.jsonl", '{"text": "a", "label": "x"}\n{"text": "b"}', "row 2 has no column 'label'"),
        ("rows.jsonl", '{"text": "a", "label": "x"}\n{"label": "x"}', "row 2 has no column 'text'"),
        ("rows.jsonl", '{"text": "", "label": "x"}', "row 1 is empty in text"),
        ("rows.jsonl", '{"text": "a", "label": ["x", "y"]}', "is not one label"),
        ("rows.jsonl", '{"text": "a", "label": null}', "is not one label"),
        ("rows.csv", "text,label\na,x\nb\n", "line 3 has other columns"),
        ("rows.parquet", "PAR1 not really", "no Parquet file"),
        ("rows.xlsx", "", "known are .jsonl"),
        ("rows.csv", b"text,label\n\xff\xfe,x\n", "can't be read"),
    ],
)
def test_every_fault_names_its_place(tmp_path: Path, name: str, content: str | bytes, reason: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TrainingDataInvalid, match=reason):
        read_labelled(path, Columns(), task=Task.SINGLE_LABEL)


def test_label_that_is_no_number_and_missing_image_name_their_row(tmp_path: Path) -> None:
    path = _write(tmp_path / "rows.csv", [{"text": "a", "label": "high"}])
    with pytest.raises(TrainingDataInvalid, match="row 1: label='high' is not a number"):
        read_labelled(path, Columns(), task=Task.REGRESSION)
    path = _write(tmp_path / "more.csv", [{"image": "gone.png", "label": "x"}])
    with pytest.raises(TrainingDataInvalid, match=r"row 1: image 'gone.png' can't be read"):
        read_labelled(path, Columns("", "image"), task=Task.SINGLE_LABEL)


def test_items_carry_ids_and_what_is_kept_beside_them(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"id": 7, "text": "Heat", "year": 1995, "genres": ["Crime"]},
        {"id": "b", "text": "Up", "year": None, "genres": []},
    ]
    path = _write(tmp_path / "films.jsonl", rows)
    items = read_items(path, item_id="id", text="text", image="", metadata=["year", "genres"])
    assert items.ids == ("7", "b")
    assert items.metadata == ({"year": 1995, "genres": ["Crime"]}, {"genres": []})
    with pytest.raises(TrainingDataInvalid, match="row 1 has no column 'actor'"):
        read_items(path, item_id="id", text="text", image="", metadata=["actor"])
