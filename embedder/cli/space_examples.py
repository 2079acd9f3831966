"""Labelled contents, embedded in two spaces by the running service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from embedder.cli import training_options as common
from embedder.cli.space_options import TwoSpaces
from embedder_heads import Task

if TYPE_CHECKING:
    from embedder_heads import Head
    from embedder_heads.training.bridge import Labelled
    from embedder_heads.training.examples import Examples
    from embedder_heads.training.table import LabelledTable


class RunningService:
    """How the running service is reached."""

    def __init__(self, target: str, token: str, tls_root: Path | None) -> None:
        self.target, self.token, self.tls_root = target, token, tls_root


def read_labels(path: Path, text: str, image: str, label: str, separator: str, task: Task) -> LabelledTable:
    """Read a file of labelled contents."""
    from embedder_heads.training.table import Columns, read_labelled

    return read_labelled(path, Columns(text, image, label, separator), task=task)


def _both_sides(
    table: LabelledTable, two: TwoSpaces, service: RunningService
) -> tuple[list[int], dict[str, np.ndarray]]:
    """Embed a table in both spaces; returns the rows that neither failed, and their vectors by space."""
    found = {
        name: common.embed(
            table.contents,
            target=service.target,
            token=service.token,
            tls_root=service.tls_root,
            space=name,
            task="migrate",
        )
        for name in (two.old, two.new)
    }
    failed = {row for embedded in found.values() for row in embedded.failures}
    rows = [row for row in range(len(table.contents)) if row not in failed]
    return rows, {name: embedded.vectors[rows] for name, embedded in found.items()}


def labels_of_both(
    table: LabelledTable, two: TwoSpaces, service: RunningService, task: Task
) -> tuple[Examples, Examples]:
    """Return a table's examples in the old and in the new space; what failed in either is in neither."""
    from embedder_heads.training.examples import make_examples

    rows, vectors = _both_sides(table, two, service)
    given = [table.given[row] for row in rows]
    return make_examples(vectors[two.old], given, task=task), make_examples(vectors[two.new], given, task=task)


def labels_for_map(table: LabelledTable, head: Head, two: TwoSpaces, service: RunningService) -> Labelled:
    """Return a table's vectors in both spaces, with what a head of the old one should decide."""
    from embedder_heads.training.bridge import Labelled
    from embedder_heads.training.examples import make_examples

    rows, vectors = _both_sides(table, two, service)
    manifest = head.manifest
    examples = make_examples(
        vectors[two.old], [table.given[row] for row in rows], task=manifest.task, labels=manifest.labels, complete=False
    )
    return Labelled(source=vectors[two.new], target=vectors[two.old], targets=examples.targets)
