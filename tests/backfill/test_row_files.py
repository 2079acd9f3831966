"""Files of rows: cut anywhere, what is read is what stands in them."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from embedder.backfill.sources.formats import open_rows
from embedder.backfill.sources.row_file import RowFile
from embedder.errors import InvalidRequest

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=40)
PROPERTY = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_all(rows: RowFile, columns: list[str], *, shard_rows: int) -> tuple[list[list[object]], dict[int, str]]:
    """Read a file extent by extent; returns its rows and failures, and checks that extents follow each other."""
    found: list[list[object]] = []
    failures: dict[int, str] = {}
    extents = list(rows.extents(shard_rows=shard_rows))
    for before, after in pairwise(extents):
        assert before.end <= after.start
        assert before.first_row + before.rows == after.first_row
    for extent in extents:
        assert 1 <= extent.rows <= shard_rows
        block = rows.read(extent, columns)
        assert block.rows == extent.rows
        failures |= {extent.first_row + row: why for row, why in block.failures.items()}
        found += [list(values) for values in zip(*[block.columns[name] for name in columns], strict=True)]
    rows.close()
    return found, failures


@PROPERTY
@given(texts=TEXTS, shard_rows=st.integers(1, 7), ends_with_newline=st.booleans())
def test_json_lines_are_read_whole_wherever_they_are_cut(
    tmp_path: Path, texts: list[str], shard_rows: int, ends_with_newline: bool
) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path.write_text("\n".join(lines) + ("\n" if ends_with_newline and lines else ""), newline="")
    found, failures = read_all(open_rows(path, "jsonl"), ["text"], shard_rows=shard_rows)
    assert [row[0] for row in found] == texts
    assert not failures


@PROPERTY
@given(texts=TEXTS, shard_rows=st.integers(1, 7), line_end=st.sampled_from(["\n", "\r\n"]))
def test_csv_rows_with_quoted_line_ends_are_read_whole_wherever_they_are_cut(
    tmp_path: Path, texts: list[str], shard_rows: int, line_end: str
) -> None:
    path = tmp_path / "rows.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator=line_end, quoting=csv.QUOTE_ALL)
        writer.writerow(["id", "text"])
        writer.writerows([number, text] for number, text in enumerate(texts))
    found, failures = read_all(open_rows(path, "csv"), ["id", "text"], shard_rows=shard_rows)
    assert found == [[str(number), text] for number, text in enumerate(texts)]
    assert not failures


@PROPERTY
@given(texts=TEXTS, shard_rows=st.integers(1, 7), group_rows=st.integers(1, 9))
def test_parquet_rows_are_read_whole_wherever_they_are_cut(
    tmp_path: Path, texts: list[str], shard_rows: int, group_rows: int
) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": pa.array(texts, pa.string()), "number": list(range(len(texts)))})
    pq.write_table(table, path, row_group_size=group_rows)
    found, _ = read_all(open_rows(path, "parquet"), ["number", "text"], shard_rows=shard_rows)
    assert found == [[number, text] for number, text in enumerate(texts)]


def test_parquet_extents_are_read_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"number": list(range(100))}), path, row_group_size=30)
    rows = open_rows(path, "parquet")
    extents = list(rows.extents(shard_rows=7))
    for extent in [*extents[::-2], *extents]:
        expected = list(range(extent.first_row, extent.first_row + extent.rows))
        assert rows.read(extent, ["number"]).columns["number"] == expected
    rows.close()


def test_bad_json_lines_fail_alone_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"text": "one"}\n{"text": \n\n["a"]\n{"text": "\xff"}\n' + b"[" * 100_000 + b'\n{"text": "two"}\n'
    )
    found, failures = read_all(open_rows(path, "jsonl"), ["text"], shard_rows=2)
    assert [row[0] for row in found] == ["one", None, None, None, None, None, "two"]
    assert sorted(failures) == [1, 2, 3, 4, 5]
    assert "empty" in failures[2]
    assert "not a JSON object" in failures[3]


def test_bad_csv_rows_fail_alone_with_a_reason(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"id,text\n1,one\n2\n3,\xff\n4,four\n")
    found, failures = read_all(open_rows(path, "csv"), ["text"], shard_rows=10)
    assert [row[0] for row in found] == ["one", None, None, "four"]
    assert "1 cells" in failures[1]
    assert "UTF-8" in failures[2]


def test_tar_members_of_one_name_are_one_row(tmp_path: Path) -> None:
    path = tmp_path / "samples.tar"
    with tarfile.open(path, "w") as archive:
        for number in range(5):
            for ending, data in (
                ("jpg", bytes([number])),
                ("txt", f"caption {number}".encode()),
                ("json", json.dumps({"score": number, "by": {"name": "x" * number}}).encode()),
            ):
                member = tarfile.TarInfo(f"folder/{'long' * 40}{number:03}.{ending}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    columns = ["__key__", "jpg", "txt", "json.score", "json.by.name"]
    for shard_rows in (1, 2, 10):
        found, _ = read_all(open_rows(path, "tar"), columns, shard_rows=shard_rows)
        assert [row[1:] for row in found] == [[bytes([n]), f"caption {n}", n, "x" * n] for n in range(5)]
        assert found[3][0] == f"folder/{'long' * 40}003"


def test_nested_columns_are_reached_by_dots(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": {"b": "deep"}}\n{"a.b": "flat"}\n{"a": 3}\n')
    found, _ = read_all(open_rows(path, "jsonl"), ["a.b"], shard_rows=10)
    assert [row[0] for row in found] == ["deep", "flat", None]


@pytest.mark.parametrize("row_format", ["parquet", "tar"])
def test_a_file_that_is_not_of_its_format_is_refused(tmp_path: Path, row_format: str) -> None:
    path = tmp_path / "rows"
    path.write_bytes(b"neither of them" * 100)
    with pytest.raises(InvalidRequest, match="can't be read as"), closing(open_rows(path, row_format)) as rows:
        list(rows.extents(shard_rows=2))


def test_a_csv_header_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,text,text\n")
    with pytest.raises(InvalidRequest, match="each column once"):
        open_rows(path, "csv")
