"""Kills a backfill with SIGKILL at random moments, and checks that nothing is lost and next to nothing done twice.

    python -m tests.faults.kill_backfill --kills 50 [--rows 20000] [--seed N] [--json]

A child runs the job with an encoder that writes down every content that it computes, in a file that outlives it. It is killed once a
random number of contents was computed; the next child goes on. After the last kill the job runs to its end. Then every row must be in
the cache, right to the last bit; the outputs must hold every row once; and no kill may have cost more than one shard's encodes.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from embedder.backfill.job import Job, Outputs
from embedder.backfill.job_folder import open_or_plan
from embedder.backfill.job_runner import JobRunner, RunOptions
from embedder.backfill.manifest import Manifest
from embedder.backfill.planning import AskedColumns
from embedder.backfill.verifying import verify_job
from embedder.config import ServeSettings, load_settings
from embedder.encoders.base import Encoder, Tokens, Vectors
from tests.engine.conftest import CountingEncoder, vector_of

_SHARD_ROWS = 128
_BATCH_S = 0.004  # what the device takes, so that a kill meets a batch under way
_CONTENT_BYTES = 16
_STUCK_S = 300.0


@dataclass(frozen=True)
class Found:
    """What the kills came to.

    Attributes:
        kills: children that were killed.
        missing: rows that are not in the cache at the end.
        wrong: rows of the Parquet output that are not there once, or not right.
        encodes: contents that the device computed in all.
        encoded_again: of these, those that had been computed before.
        most_again_by_one_kill: most that one kill cost.
        shard_rows: rows of a shard.
    """

    kills: int
    missing: int
    wrong: int
    encodes: int
    encoded_again: int
    most_again_by_one_kill: int
    shard_rows: int = _SHARD_ROWS

    @property
    def is_sound(self) -> bool:
        """Whether everything was as it should be."""
        return not self.missing and not self.wrong and self.most_again_by_one_kill <= self.shard_rows


class RecordingEncoder(CountingEncoder):
    """Writes down what it computes before it gives it away."""

    log = -1

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        time.sleep(_BATCH_S)
        vectors = super().encode_texts(tokens)
        names = b"".join(bytes(row.astype(np.uint8)).ljust(_CONTENT_BYTES, b"\0")[:_CONTENT_BYTES] for row in tokens)
        os.write(self.log, names)
        return vectors


def run(*, kills: int, rows: int, folder: Path, seed: int) -> Found:
    """Kill so many children, and let the last one end the job."""
    chance = random.Random(seed)
    texts = [f"row {number:010}" for number in range(rows)]
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    log = folder / "encoded"
    log.touch()
    boundaries = [0]
    for _ in range(kills):
        left = rows - log.stat().st_size // _CONTENT_BYTES
        wanted = log.stat().st_size + _CONTENT_BYTES * chance.randrange(1, max(2, left // (kills // 2 + 1)))
        child = _start(folder)
        while log.stat().st_size < wanted and child.poll() is None:
            time.sleep(0.0005)
        time.sleep(chance.random() * 4 * _BATCH_S)
        child.send_signal(signal.SIGKILL)
        child.wait()
        boundaries.append(log.stat().st_size // _CONTENT_BYTES)
    if _start(folder).wait() != 0:
        raise RuntimeError(f"the last run did not end well: {(folder / 'stuck').read_text()}")
    return _found(folder, texts, boundaries)


def _found(folder: Path, texts: Sequence[str], boundaries: list[int]) -> Found:
    log = (folder / "encoded").read_bytes()
    names = [log[start : start + _CONTENT_BYTES] for start in range(0, len(log), _CONTENT_BYTES)]
    # What is computed again was lost by the kill that ended the run which computed it last.
    lost = Counter[int]()
    computed_in: dict[bytes, int] = {}
    for number, (start, end) in enumerate(zip(boundaries, [*boundaries[1:], len(names)], strict=True)):
        for name in names[start:end]:
            if name in computed_in:
                lost[computed_in[name]] += 1
            computed_in[name] = number
    with _manifest(folder) as manifest:
        verified = verify_job(manifest, _settings(folder), RunOptions())
    table = pq.read_table(sorted((folder / "out").glob("*.parquet")))
    ids = Counter(table["id"].to_pylist())
    right = {
        f"rows.jsonl#{number}": vector_of(text.encode()).astype(np.float16).tolist()
        for number, text in enumerate(texts)
    }
    wrong = sum(
        1
        for one, vector in zip(table["id"].to_pylist(), table["vector"].to_pylist(), strict=True)
        if right.get(one) != vector
    )
    wrong += sum(1 for one in right if ids[one] != 1)
    return Found(
        kills=len(boundaries) - 1,
        missing=verified.missing,
        wrong=wrong,
        encodes=len(names),
        encoded_again=len(names) - len(set(names)),
        most_again_by_one_kill=max(lost.values(), default=0),
    )


def _start(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.kill_backfill", "--child", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _work(folder: Path) -> None:
    """Be the child; one that is stuck says where, and ends."""
    faulthandler.dump_traceback_later(_STUCK_S, exit=True, file=(folder / "stuck").open("w"))
    encoder = RecordingEncoder()
    encoder.log = os.open(folder / "encoded", os.O_WRONLY | os.O_APPEND)

    def load(settings: ServeSettings, stack: ExitStack) -> Encoder:
        return encoder

    with _manifest(folder) as manifest:
        JobRunner(manifest, _settings(folder), RunOptions(), load=load).run()


def _settings(folder: Path) -> ServeSettings:
    return load_settings(data_dir=folder / "data", cache_limit_bytes="256 MiB", decode_workers=0, max_batch_tokens=64)


def _manifest(folder: Path) -> Manifest:
    job = Job(
        sources=(str(folder / "rows.jsonl"),),
        columns=None,
        model="default",
        precision="auto",
        space="default@1",
        shard_rows=_SHARD_ROWS,
        outputs=Outputs(parquet=str(folder / "out")),
    )
    place = folder / "data" / "backfill" / "killed"
    return open_or_plan(place, job, AskedColumns(), data_dir=folder / "data", on_progress=lambda size: None)


def main() -> None:
    """Run from the command line; status 1 when something was lost, wrong, or done twice beyond a shard."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        _work(options.child)
        return
    folder = Path(tempfile.mkdtemp(prefix="kill-backfill-"))
    try:
        found = run(kills=options.kills, rows=options.rows, folder=folder, seed=options.seed)
    finally:
        shutil.rmtree(folder)
    counts = asdict(found) | {"seed": options.seed}
    sys.stdout.write(
        json.dumps(counts) + "\n" if options.json else "".join(f"{name:24} {count}\n" for name, count in counts.items())
    )
    sys.exit(0 if found.is_sound else 1)


if __name__ == "__main__":
    main()
