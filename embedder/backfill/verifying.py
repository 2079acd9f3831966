"""Verifies a job: reads its sources anew, and asks the cache for every row, which checks each record's key and checksum."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from embedder.backfill.job_runner import RunOptions, open_client, task_of
from embedder.backfill.local_space import LocalSpace
from embedder.backfill.manifest import Manifest
from embedder.backfill.outputs.rejects import Rejects
from embedder.backfill.pinned_space import PinnedSpace
from embedder.backfill.reading import ShardReader
from embedder.backfill.records import Reject
from embedder.backfill.shard_contents import ShardContents
from embedder.config import ServeSettings
from embedder.encoders.base import Encoder
from embedder.engine.contents import COMPOSITES
from embedder.errors import ConfigurationError
from embedder.server.parts import media_limits

NAME = "missing.jsonl"


@dataclass(frozen=True, slots=True)
class JobVerification:
    """What a walk through a job met.

    Attributes:
        rows: rows of its sources.
        present: rows whose vector is held and sound.
        rejected: rows that were rejected when they were computed, and are not there.
        missing: rows that should be there and are not, or whose record is damaged.
        file: where the missing ones are listed; None where there is none.
    """

    rows: int
    present: int
    rejected: int
    missing: int
    file: Path | None


class Holder(Protocol):
    """Knows which contents are held."""

    def holds(self, contents: ShardContents) -> np.ndarray:
        """Return (rows,) bool: which rows' vectors are held and sound."""
        ...


def verify_job(
    manifest: Manifest,
    settings: ServeSettings,
    options: RunOptions,
    *,
    on_progress: Callable[[int], None] = lambda rows: None,
    load: Callable[[ServeSettings, ExitStack], Encoder] | None = None,
) -> JobVerification:
    """Check every row of a job.

    Args:
        options: how the service is reached, for a job with a target.
        on_progress: is told of rows that were checked since it was last told.
        load: loads the encoder, which posts and videos need; None loads the one that the settings name.
    Raises:
        ConfigurationError: the job has not run, a source was changed, or another process writes to the cache.
    """
    pinned = PinnedSpace.read(manifest.folder)
    if pinned is None:
        raise ConfigurationError("the job has not run yet: there is nothing to verify")
    rejected_rows = np.zeros(manifest.rows, np.bool_)
    rejected_rows[list(Rejects(manifest.folder).rows())] = True
    path = manifest.folder / NAME
    rows = present = rejected = missing = 0
    with ExitStack() as stack:
        if manifest.job.target:
            holder: Holder = _open_service(manifest, options, stack)
        else:
            space = LocalSpace(settings, pinned, task=task_of(manifest), load=load)
            stack.callback(space.close)
            holder = _LocalHolder(space)
        reader = ShardReader(manifest, media_limits(settings))
        stack.callback(reader.close)
        with path.open("w") as file:
            for shard in manifest.all_shards():
                contents = reader.read(shard)
                held = holder.holds(contents)
                known = rejected_rows[shard.row_offset : shard.row_offset + shard.rows]
                for one in _missing(contents, ~held & ~known):
                    file.write(json.dumps(asdict(one)) + "\n")
                rows += shard.rows
                present += int(held.sum())
                rejected += int((~held & known).sum())
                missing += int((~held & ~known).sum())
                on_progress(shard.rows)
    if not missing:
        path.unlink()
    return JobVerification(rows, present, rejected, missing, path if missing else None)


def _missing(contents: ShardContents, is_missing: np.ndarray) -> Iterator[Reject]:
    shard = contents.shard
    for row in np.flatnonzero(is_missing).tolist():
        error = contents.items[row].error
        reason = str(error) if error is not None else "its vector is not in the cache, or its record is damaged"
        yield Reject(shard.number, shard.row_offset + row, contents.ids[row], reason)


def _open_service(manifest: Manifest, options: RunOptions, stack: ExitStack) -> Holder:
    job = manifest.job
    client = open_client(job.target, options)
    stack.callback(client.close)
    return _ServiceHolder(lambda hashes: client.lookup(hashes, space=job.space).found)


class _ServiceHolder:
    def __init__(self, look_up: Callable[[bytes], np.ndarray]) -> None:
        self._look_up = look_up

    def holds(self, contents: ShardContents) -> np.ndarray:
        return _held(contents, self._look_up, leave_out_wholes=False)


class _LocalHolder:
    def __init__(self, space: LocalSpace) -> None:
        self._space = space

    def holds(self, contents: ShardContents) -> np.ndarray:
        cache, key = self._space.cache, self._space.key
        held = _held(contents, lambda hashes: cache.get_many(key, hashes).found, leave_out_wholes=True)
        wholes = [row for row, item in enumerate(contents.items) if item.error is None and item.modality in COMPOSITES]
        if wholes:
            hashes = b"".join(contents.items[row].content_hash for row in wholes)
            found, _ = self._space.composite().lookup(hashes, self._space.options)
            held[wholes] = found.found
        return held


def _held(contents: ShardContents, look_up: Callable[[bytes], np.ndarray], *, leave_out_wholes: bool) -> np.ndarray:
    """Ask for the rows that could be read, but for wholes where these are asked for apart."""
    held = np.zeros(len(contents.items), np.bool_)
    asked = [
        row
        for row, item in enumerate(contents.items)
        if item.error is None and not (leave_out_wholes and item.modality in COMPOSITES)
    ]
    if asked:
        held[asked] = look_up(b"".join(contents.items[row].content_hash for row in asked))
    return held
