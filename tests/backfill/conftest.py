"""Jobs on files of a temporary folder, with an encoder whose every call is counted."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from embedder.backfill.job import Job, Outputs
from embedder.backfill.job_folder import open_or_plan
from embedder.backfill.job_runner import JobRunner, RunEnd, RunOptions
from embedder.backfill.journal import Journal, ShardDone
from embedder.backfill.manifest import Manifest
from embedder.backfill.planning import AskedColumns, absolute
from embedder.config import ServeSettings, load_settings
from embedder.encoders.base import Encoder
from embedder_client.content_hash import Modality
from tests.engine.conftest import CountingEncoder


@dataclass
class Workplace:
    """A folder with files, a data folder, and the encoder that every run loads."""

    folder: Path
    settings: ServeSettings
    encoder: CountingEncoder = field(default_factory=CountingEncoder)
    loads: int = 0

    def path(self, name: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def write_lines(self, name: str, rows: Iterable[Mapping[str, Any] | str]) -> Path:
        path = self.path(name)
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return path

    def plan(
        self,
        *sources: Path,
        job: str = "",
        column: str = "",
        kind: Modality | None = None,
        post: Sequence[str] = (),
        item_id: str = "",
        shard_rows: int = 0,
        outputs: Outputs | None = None,
    ) -> Manifest:
        wanted = Job(
            sources=absolute([str(source) for source in sources]),
            columns=None,
            model="default",
            precision="auto",
            space="default@1",
            shard_rows=shard_rows,
            outputs=outputs or Outputs(),
        )
        asked = AskedColumns(column=column, modality=kind, fields=tuple(post), id_column=item_id)
        folder = self.settings.data_dir / "backfill" / job if job else None
        return open_or_plan(folder, wanted, asked, data_dir=self.settings.data_dir, on_progress=lambda size: None)

    def runner(self, manifest: Manifest, **options: Any) -> JobRunner:
        def load(settings: ServeSettings, stack: ExitStack) -> Encoder:
            self.loads += 1
            return self.encoder

        return JobRunner(manifest, self.settings, RunOptions(**options), load=load)

    def run(self, manifest: Manifest, **options: Any) -> RunEnd:
        return self.runner(manifest, **options).run()


def totals(manifest: Manifest) -> ShardDone:
    """Add up what the shards that are done came to."""
    return Journal(manifest.folder).totals()[1]


def rejects_of(manifest: Manifest) -> dict[str, str]:
    """Return the reasons of a job's rejects by id."""
    path = manifest.folder / "rejects.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["id"]: row["reason"] for row in rows}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    settings = load_settings(
        data_dir=tmp_path / "data", cache_limit_bytes="64 MiB", decode_workers=0, video_workers=1, max_batch_tokens=64
    )
    return Workplace(tmp_path / "files", settings)
