"""A head's files: what is written comes back, and whatever is wrong with them is refused with its reason."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embedder_heads import Head, HeadInvalid, HeadKind, HeadNameInvalid, Metric, Task, load_head, save_head

MakeHead = Callable[..., Head]


@pytest.fixture
def saved(tmp_path: Path, make_head: MakeHead) -> Path:
    save_head(make_head(), tmp_path, name="topic", version=1)
    return tmp_path


def _edit(folder: Path, **changes: object) -> None:
    document = json.loads((folder / "head.json").read_text())
    (folder / "head.json").write_text(json.dumps({**document, **changes}))


@pytest.mark.parametrize("kind", list(HeadKind))
@pytest.mark.parametrize("task", list(Task))
def test_every_kind_and_task_comes_back_as_it_was(
    tmp_path: Path, make_head: MakeHead, kind: HeadKind, task: Task
) -> None:
    head = make_head(kind=kind, task=task, temperature=0.3)
    head = replace(head, manifest=replace(head.manifest, metrics={"accuracy": Metric(0.9, 0.8, 0.95, 50, "5-fold")}))
    written = save_head(head, tmp_path, name="topic", version=4)
    loaded = load_head(tmp_path)
    assert loaded.manifest == written.manifest
    assert (loaded.manifest.version, loaded.manifest.metrics["accuracy"].samples) == (4, 50)
    assert set(loaded.tensors) == set(head.tensors)
    for name, tensor in head.tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], tensor)
        assert not loaded.tensors[name].flags.writeable


def test_changed_tensor_byte_is_refused(saved: Path) -> None:
    path = saved / "head.safetensors"
    payload = bytearray(path.read_bytes())
    payload[-1] ^= 1
    path.write_bytes(payload)
    with pytest.raises(HeadInvalid, match="digest"):
        load_head(saved)


def test_pickled_tensors_are_refused_and_not_run(saved: Path, tmp_path: Path) -> None:
    import hashlib

    class Touch:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return (open, (str(tmp_path / "ran"), "w"))

    payload = pickle.dumps(Touch())
    (saved / "head.safetensors").write_bytes(payload)
    _edit(saved, tensors_digest=hashlib.sha256(payload).hexdigest())
    with pytest.raises(HeadInvalid, match="not a safetensors file"):
        load_head(saved)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dim": 17}, "dim"),
        ({"labels": ["a", "b"]}, "labels"),
        ({"labels": ["a", "a", "b"]}, "no label twice"),
        ({"labels": "abc"}, "list of strings"),
        ({"kind": "forest"}, "one of linear"),
        ({"kind": "mlp"}, "has the tensors"),
        ({"task": "multi_label"}, "0 thresholds for 3 labels"),
        ({"thresholds": [0.5, 0.5, 0.5]}, "has no thresholds"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "finite"),
        ({"space_digest": "xyz"}, "64 hex digits"),
        ({"version": -1}, "whole number"),
        ({"schema": 2}, "schema 2"),
        ({"surprise": 1}, "unknown fields: surprise"),
        ({"metrics": {"accuracy": {"value": 1.0}}}, "lacks the field"),
    ],
)
def test_wrong_manifest_is_refused_with_its_reason(saved: Path, changes: dict[str, object], reason: str) -> None:
    _edit(saved, **changes)
    with pytest.raises(HeadInvalid, match=reason):
        load_head(saved)


def test_name_that_leaves_the_folder_is_refused(saved: Path) -> None:
    _edit(saved, name="../evil")
    with pytest.raises(HeadNameInvalid):
        load_head(saved)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_tensor_is_refused(make_head: MakeHead, bad: float) -> None:
    head = make_head()
    weight = head.tensors["weight"].copy()
    weight[0, 0] = bad
    with pytest.raises(HeadInvalid, match="NaN or infinity"):
        Head(head.manifest, {**head.tensors, "weight": weight})


def test_tensor_of_another_dtype_is_refused(make_head: MakeHead) -> None:
    head = make_head()
    with pytest.raises(HeadInvalid, match="float64"):
        Head(head.manifest, {**head.tensors, "bias": head.tensors["bias"].astype(np.float64)})


@pytest.mark.parametrize("name", ["head.json", "head.safetensors"])
def test_missing_file_and_link_are_refused(saved: Path, tmp_path: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (saved / name).rename(elsewhere)
    with pytest.raises(HeadInvalid, match="can't be read"):
        load_head(saved)
    (saved / name).symlink_to(elsewhere)
    with pytest.raises(HeadInvalid, match="link"):
        load_head(saved)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_manifest_that_is_no_json_object_is_refused(saved: Path, text: str) -> None:
    (saved / "head.json").write_text(text)
    with pytest.raises(HeadInvalid):
        load_head(saved)
