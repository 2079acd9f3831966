"""The command line: from a labelled file to a served head, and around the registry, against a stand-in service."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from embedder.cli import training_options
from embedder.cli.heads import app
from embedder_client import Text
from embedder_heads import HeadRegistry, HeadRuntime
from embedder_heads.index.library import IndexLibrary

SPACE = bytes(range(32))
WORDS = {"sport": ("goal", "match", "team"), "politics": ("vote", "law", "party")}


@dataclass
class StandIn:
    """Answers Embed as a service would: each word points its own way, and a text with 'bad' in it fails."""

    target: str
    settings: object

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def embed(self, contents: Sequence[Text], *, lane: str, task: str, space: str, dtype: str) -> SimpleNamespace:
        assert (lane, dtype) == ("bulk", "float32")
        vectors = np.stack([self._vector(content.text) for content in contents])
        failures = [SimpleNamespace(index=i, message="too bad") for i, c in enumerate(contents) if "bad" in c.text]
        provenance = SimpleNamespace(space_digest=SPACE)
        return SimpleNamespace(
            vectors=vectors,
            failures=failures,
            provenance=provenance,
            sources=["computed"] * len(contents),
            segments={},
        )

    def _vector(self, text: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        summed = np.zeros(32, np.float32)
        for word in text.split():
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little")
            summed += np.random.default_rng(seed).standard_normal(32).astype(np.float32)
        return summed / np.linalg.norm(summed)


@pytest.fixture(autouse=True)
def service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_options, "Client", StandIn)


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    rows = [
        {"text": f"{first} {second} {number}", "label": label}
        for label, words in WORDS.items()
        for first in words
        for second in words
        for number in range(4)
    ]
    path = tmp_path / "news.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in [*rows, rows[0], {"text": "bad", "label": "sport"}]))
    return path


def _run(*arguments: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})
    assert result.exit_code == code, result.output
    return result.output


def test_labelled_file_becomes_a_served_head(tmp_path: Path, labelled: Path) -> None:
    heads = tmp_path / "heads"
    said = _run("train", labelled, "--name", "topic", "--alias", "prod", "--heads-dir", heads, "--kind", "linear")
    assert "73 contents, 1 repeats folded, 0 rows contradict" in said
    assert "content 73 is left out: too bad" in said
    assert "accuracy" in said
    runtime = HeadRuntime(HeadRegistry(heads))
    vector = StandIn("", None)._vector("goal goal team")
    [output] = runtime.predict(vector[None], ["topic@prod"], SPACE)
    assert output.labels[int(output.scores.argmax())] == "sport"
    assert "accuracy" in _run("evaluate", "topic", labelled, "--heads-dir", heads)
    assert "topic" in _run("list", "--heads-dir", heads)


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_report_page_shows_what_was_held_out(tmp_path: Path, labelled: Path, kind: str) -> None:
    report = tmp_path / "report"
    _run("train", labelled, "--name", "topic", "--heads-dir", tmp_path, "--kind", kind, "--report", report)
    page = (report / "report.html").read_text()
    pictures = {"confusion", "calibration", "precision_recall"} | ({"learning"} if kind == "mlp" else set())
    assert {file.stem for file in report.glob("*.png")} == pictures
    for name in pictures:
        assert f'src="{name}.png"' in page
        with Image.open(report / f"{name}.png") as picture:
            assert len(np.unique(np.asarray(picture.convert("L")))) > 2  # something was drawn
    metrics = HeadRegistry(tmp_path).resolve("topic").manifest.metrics
    assert f"{metrics['accuracy'].value:.4f}" in page


def test_versions_move_as_told(tmp_path: Path, labelled: Path) -> None:
    heads, out = tmp_path / "heads", tmp_path / "candidate"
    _run("train", labelled, "--name", "topic", "--heads-dir", heads, "--kind", "linear")
    _run("train", labelled, "--name", "topic", "--out", out, "--kind", "linear", "--balanced")
    assert HeadRegistry(heads).versions("topic") == [1]
    assert "published topic@2" in _run("publish", out, "--heads-dir", heads)
    _run("promote", "topic@1", "prod", "--heads-dir", heads)
    assert "version 1" in _run("rollback", "topic", "--heads-dir", heads)
    assert "is what" not in _run("remove", "topic@2", "--heads-dir", heads)
    assert "current, prod points to" in _run("remove", "topic@1", "--heads-dir", heads, code=1)
    assert HeadRegistry(heads).versions("topic") == [1]


def test_label_names_alone_make_a_head(tmp_path: Path) -> None:
    labels = ["--label", "goal", "--label", "vote"]
    _run("zero-shot", "--name", "topic", *labels, "--prompt", "{label}", "--heads-dir", tmp_path)
    [output] = HeadRuntime(HeadRegistry(tmp_path)).predict(StandIn("", None)._vector("vote")[None], ["topic"], SPACE)
    assert output.scores[0].tolist() == pytest.approx([0, 1], abs=1e-3)


def test_file_of_items_becomes_an_index(tmp_path: Path) -> None:
    items, indexes = tmp_path / "items.jsonl", tmp_path / "indexes"
    rows = [{"id": str(n), "text": word, "kind": kind} for kind, words in WORDS.items() for n, word in enumerate(words)]
    for number, row in enumerate(rows):
        row["id"] = f"{row['kind']}-{number}"
    items.write_text("\n".join(json.dumps(row) for row in [*rows, {"id": "x", "text": "bad", "kind": "sport"}]))
    said = _run("index", "build", items, "--name", "words", "--metadata", "kind", "--indexes-dir", indexes)
    assert "item x is left out: too bad" in said
    assert "6 items" in said
    index = IndexLibrary(indexes).open("words", SPACE)
    [hits] = index.search(StandIn("", None)._vector("law")[None], 2, filters={"kind": "politics"})
    assert hits[0].id == "politics-4"
    more = tmp_path / "more.jsonl"
    more.write_text(json.dumps({"id": "sport-9", "text": "goal"}))
    assert "7 items" in _run("index", "add", "words", more, "--indexes-dir", indexes)
    assert "6 items" in _run("index", "remove-items", "words", "sport-9", "--indexes-dir", indexes)
    assert "words" in _run("index", "list", "--indexes-dir", indexes)
    seen = tmp_path / "seen.csv"
    seen.write_text(
        "user,item,time\n" + "".join(f"u{n},{rows[n % 6]['id']},{n}\nu{n},{rows[-1]['id']},{n}\n" for n in range(30))
    )
    said = _run("index", "recommender", "words", seen, "--epochs", "1", "--indexes-dir", indexes)
    assert "30 users, 60 interactions" in said
    library = IndexLibrary(indexes)
    assert library.recommender_of(library.open("words")) is not None
    assert sorted(library.open("words").texts() or []) == sorted(row["text"] for row in rows), "the texts stay"
    _run("index", "rollback", "words", "--indexes-dir", indexes)
    _run("index", "promote", "words@1", "prod", "--indexes-dir", indexes)
    _run("index", "rollback", "words@prod", "--indexes-dir", indexes, code=1)
    _run("index", "remove", "words", "--indexes-dir", indexes)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("rollback", "topic"), "no earlier version"),
        (("promote", "topic@1", "prod"), "nothing is published"),
        (("promote", "../x", "prod"), "not allowed"),
        (("index", "remove", "films"), "nothing is published"),
    ],
)
def test_faults_are_one_line_and_status_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], reason: str
) -> None:
    monkeypatch.setenv("EMBEDDER_HEADS_DIR", str(tmp_path))
    monkeypatch.setenv("EMBEDDER_INDEXES_DIR", str(tmp_path))
    assert reason in _run(*arguments, code=1)
