"""A backfill of real texts and photographs beside the bare encoder on prepared batches, in turns; then again over the full cache.

The bare encoder gets the same contents tokenized and decoded before, sorted by length, in batches of the same budget. A backfill
reads files, hashes, asks the cache, tokenizes, decodes, encodes, commits and notes its shards. `--full` takes 20,000 texts and 2,000
images, compares the memory of a job of ten million rows with that of one of a hundred thousand, and lets a Ray cluster on this machine
and this process take turns.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console

from benchmarks.common.image_rates import new_photographs
from benchmarks.common.run import Result, main
from benchmarks.common.texts import fresh_texts
from embedder.backfill.encoding import cut_batches
from embedder.backfill.job import Job
from embedder.backfill.job_folder import open_or_plan
from embedder.backfill.job_runner import JobRunner, RunOptions
from embedder.backfill.journal import Journal
from embedder.backfill.local_space import max_batch_units
from embedder.backfill.planning import AskedColumns
from embedder.backfill.shard_contents import PreparedPart
from embedder.cli.process import SWITCH_INTERVAL_S
from embedder.config import ServeSettings, load_settings
from embedder.encoders.base import Encoder, Pixels, Tokens, Vectors
from embedder.server.encoder_opening import open_encoder
from embedder.server.parts import start_decoder
from embedder_client.content_hash import Modality

_ROUNDS = 2
_TEXTS, _IMAGES = 10_000, 1_000
_FULL_TEXTS, _FULL_IMAGES = 20_000, 2_000
_SMALL_ROWS, _LARGE_ROWS = 100_000, 10_000_000
_KNOWN_TEXTS = 20_000
_GROUP_ROWS = 100_000
_RAY_TEXTS, _RAY_ROUNDS, _RAY_SHARD_ROWS = 4_096, 3, 512

_COLUMNS = ("contender", "items/s", "of the bare encoder", "encodes", "memory")


@dataclass(frozen=True)
class Spent:
    """Seconds of a turn: by the wall, and of this process's CPU, which other work on the machine hardly lengthens."""

    wall_s: float
    cpu_s: float


@contextmanager
def _clock() -> Iterator[list[Spent]]:
    """Time a block; what it yields holds the answer afterwards."""
    found: list[Spent] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield found
    found.append(Spent(time.perf_counter() - wall, time.process_time() - cpu))


@dataclass(frozen=True)
class Round:
    """One turn: what each contender spent on the same contents."""

    items: int
    bare: Spent
    backfill: Spent
    second: Spent
    second_encodes: int


class CountingEncoder:
    """The encoder, counting what it encodes; closing it leaves it open for the next round."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.info = encoder.info
        self.prepare_texts, self.prepare_image = encoder.prepare_texts, encoder.prepare_image
        self.prepare_frame = encoder.prepare_frame
        self.encodes = 0

    def encode_texts(self, tokens: Sequence[Tokens]) -> Vectors:
        self.encodes += len(tokens)
        return self._encoder.encode_texts(tokens)

    def encode_images(self, pixels: Sequence[Pixels]) -> Vectors:
        self.encodes += len(pixels)
        return self._encoder.encode_images(pixels)

    def encode_texts_exact(self, tokens: Sequence[Tokens]) -> Vectors:
        return self._encoder.encode_texts_exact(tokens)

    def encode_images_exact(self, pixels: Sequence[Pixels]) -> Vectors:
        return self._encoder.encode_images_exact(pixels)

    def close(self) -> None:
        """Leave the encoder open."""


@dataclass(frozen=True)
class Bench:
    """What every round works with."""

    settings: ServeSettings
    encoder: CountingEncoder

    def run_job(self, sources: Sequence[Path], name: str) -> Spent:
        """Plan and run a new job; returns what both spent."""
        with _clock() as clock:
            self._run_job(sources, name)
        return clock[0]

    def _run_job(self, sources: Sequence[Path], name: str) -> None:
        job = Job(sources=tuple(map(str, sources)), columns=None, model="default", precision="auto", space="default@1")
        folder = self.settings.data_dir / "backfill" / name
        with open_or_plan(
            folder, job, AskedColumns(), data_dir=self.settings.data_dir, on_progress=lambda size: None
        ) as manifest:
            JobRunner(manifest, self.settings, RunOptions(), load=lambda settings, stack: self.encoder).run()
            done = Journal(manifest.folder).totals()[1]
            assert (done.rows, done.rejected) == (manifest.rows, 0)

    def rate(self, source: Path, name: str, executor: str) -> float:
        """Run a new job; returns its rows a second between its first shard's end and its last's, so that no start counts."""
        job = Job(
            sources=(str(source),),
            columns=None,
            model="default",
            precision="auto",
            space="default@1",
            shard_rows=_RAY_SHARD_ROWS,
        )
        folder = self.settings.data_dir / "backfill" / name
        ends: list[tuple[float, int]] = []
        with open_or_plan(
            folder, job, AskedColumns(), data_dir=self.settings.data_dir, on_progress=lambda size: None
        ) as manifest:
            runner = JobRunner(
                manifest, self.settings, RunOptions(executor=executor), load=lambda settings, stack: self.encoder
            )
            runner.run(on_done=lambda done: ends.append((time.perf_counter(), done.rows)))
        return sum(rows for _, rows in ends[1:]) / (ends[-1][0] - ends[0][0])


def measure(full: bool, console: Console) -> Result:
    """Measure the rounds, and with `--full` the memory."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # as the command does
    texts, images = (_FULL_TEXTS, _FULL_IMAGES) if full else (_TEXTS, _IMAGES)
    folder = Path(tempfile.mkdtemp(prefix="backfill-bench-"))
    try:
        with ExitStack() as stack:
            settings = load_settings(data_dir=folder / "data", cache_limit_bytes="1 GiB")
            settings.data_dir.mkdir()
            encoder = open_encoder(settings, start_decoder(settings, stack))
            stack.callback(encoder.close)
            bench = Bench(settings, CountingEncoder(encoder))
            rounds = list(_rounds(bench, folder, texts // _ROUNDS, images // _ROUNDS, console))
            ray = _ray_shares(bench, folder, console) if full else []
        memory = _memory(folder, console) if full else None
    finally:
        shutil.rmtree(folder)
    return _result(rounds, memory, ray, texts=texts, images=images)


def _rounds(bench: Bench, folder: Path, texts: int, images: int, console: Console) -> Iterator[Round]:
    words, photographs = fresh_texts(seed=8), new_photographs()
    _warm(bench, list(itertools.islice(words, 256)), list(itertools.islice(photographs, 32)))
    for number in range(_ROUNDS):
        console.print(f"round {number + 1} of {_ROUNDS}: {texts:,} texts, {images:,} images")
        mine = list(itertools.islice(words, texts))
        files = list(itertools.islice(photographs, images))
        source = folder / f"round-{number}"
        _write(source, mine, files)
        turns = {"bare": lambda: _bare(bench, mine, files), "backfill": lambda: bench.run_job([source], f"r{number}")}  # noqa: B023
        order = list(turns) if number % 2 == 0 else list(turns)[::-1]
        spent = {name: turns[name]() for name in order}
        before = bench.encoder.encodes
        second = bench.run_job([source], f"again-{number}")
        found = Round(texts + images, spent["bare"], spent["backfill"], second, bench.encoder.encodes - before)
        console.print(f"bare {found.bare}, backfill {found.backfill}, again {found.second}")
        yield found


def _ray_shares(bench: Bench, folder: Path, console: Console) -> list[float]:
    """Return, for each round, the rate of a Ray cluster on this machine over that of this process."""
    words = fresh_texts(seed=10)
    shares = []
    for number in range(_RAY_ROUNDS):
        console.print(f"Ray, round {number + 1} of {_RAY_ROUNDS}")
        rates = {}
        for executor in ("local", "ray") if number % 2 == 0 else ("ray", "local"):
            source = folder / f"{executor}-{number}"
            _write(source, list(itertools.islice(words, _RAY_TEXTS)), [])
            rates[executor] = bench.rate(source, f"{executor}{number}", executor)
        shares.append(rates["ray"] / rates["local"])
    return shares


def _warm(bench: Bench, texts: list[str], images: list[bytes]) -> None:
    _bare(bench, texts, images)


def _write(folder: Path, texts: Sequence[str], images: Sequence[bytes]) -> None:
    folder.mkdir()
    with (folder / "texts.jsonl").open("w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    for number, image in enumerate(images):
        (folder / f"{number:05}.jpg").write_bytes(image)


def _bare(bench: Bench, texts: Sequence[str], images: Sequence[bytes]) -> Spent:
    """Prepare everything, and time the encoder alone."""
    encoder = bench.encoder
    parts = [
        PreparedPart(part, Modality.TEXT, tokens, float(len(tokens)))
        for part, tokens in enumerate(encoder.prepare_texts(texts))
    ]
    parts += [PreparedPart(part, Modality.IMAGE, encoder.prepare_image(data), 1.0) for part, data in enumerate(images)]
    batches = list(cut_batches(parts, max_batch_units(bench.settings)))
    with _clock() as clock:
        for batch in batches:
            encode = encoder.encode_texts if batch[0].modality is Modality.TEXT else encoder.encode_images
            encode([part.prepared for part in batch])  # type: ignore[misc]  # of one medium
    return clock[0]


@dataclass(frozen=True)
class Memory:
    """Peak memory of jobs of hits, in MiB, and what they did."""

    small_mib: float
    large_mib: float
    rows_a_second: float
    encodes: int


def _memory(folder: Path, console: Console) -> Memory:
    """Run jobs of few and of many rows over a cache that holds all their contents, each in a process of its own."""
    known = list(itertools.islice(fresh_texts(seed=9), _KNOWN_TEXTS))
    found = {}
    for rows in (_KNOWN_TEXTS, _SMALL_ROWS, _LARGE_ROWS):
        console.print(f"memory of {rows:,} rows")
        path = folder / f"{rows}.parquet"
        _write_rows(path, known, rows)
        found[rows] = _in_own_process(folder, path)
    return Memory(
        small_mib=found[_SMALL_ROWS][0],
        large_mib=found[_LARGE_ROWS][0],
        rows_a_second=_LARGE_ROWS / found[_LARGE_ROWS][1],
        encodes=found[_SMALL_ROWS][2] + found[_LARGE_ROWS][2],
    )


def _write_rows(path: Path, texts: Sequence[str], rows: int) -> None:
    """Write rows with ids of their own, whose texts are among the given ones."""
    schema = pa.schema([("id", pa.string()), ("text", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, _GROUP_ROWS):
            numbers = range(first, min(first + _GROUP_ROWS, rows))
            ids = [f"row-{number:012}" for number in numbers]
            writer.write_table(
                pa.table({"id": ids, "text": [texts[number % len(texts)] for number in numbers]}, schema)
            )


def _in_own_process(folder: Path, path: Path) -> tuple[float, float, int]:
    """Run a job; returns its peak memory in MiB, its seconds and its encodes."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_work, args=(folder, path, there))
    process.start()
    there.close()
    found: tuple[float, float, int] = here.recv()
    process.join()
    return found


def _work(folder: Path, path: Path, answer: multiprocessing.connection.Connection) -> None:
    """Run a job with vectors that need no model: what is measured is the way past it."""
    from tests.engine.conftest import CountingEncoder as Numbered

    encoder = Numbered()
    settings = load_settings(
        data_dir=folder / "memory", cache_limit_bytes="1 GiB", decode_workers=0, max_batch_tokens=4_096
    )
    job = Job(sources=(str(path),), columns=None, model="default", precision="auto", space="default@1")
    asked = AskedColumns(id_column="id")
    start = time.perf_counter()
    with open_or_plan(None, job, asked, data_dir=settings.data_dir, on_progress=lambda size: None) as manifest:
        JobRunner(manifest, settings, RunOptions(), load=lambda settings, stack: encoder).run()
    seconds = time.perf_counter() - start
    answer.send((_peak_mib(), seconds, encoder.encodes))


def _peak_mib() -> float:
    """Return this process's peak resident size; the kernel's rusage would count its parent's, from before it became its own."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1_024


def _result(rounds: Sequence[Round], memory: Memory | None, ray: Sequence[float], *, texts: int, images: int) -> Result:
    share = statistics.median(one.bare.wall_s / one.backfill.wall_s for one in rounds)
    cpu_share = statistics.median(one.bare.cpu_s / one.backfill.cpu_s for one in rounds)
    speedup = statistics.median(one.backfill.wall_s / one.second.wall_s for one in rounds)
    items = sum(one.items for one in rounds)
    bare, first, second = (sum(getattr(one, name).wall_s for one in rounds) for name in ("bare", "backfill", "second"))
    second_encodes = sum(one.second_encodes for one in rounds)
    rows = [
        ("bare encoder, prepared batches", f"{items / bare:,.1f}", "1.000", f"{items:,}", ""),
        ("backfill, new contents", f"{items / first:,.1f}", f"{share:.3f}", f"{items:,}", ""),
        ("backfill, all of it cached", f"{items / second:,.0f}", f"{bare / second:,.0f}", f"{second_encodes:,}", ""),
    ]
    keys: dict[str, float | None] = {
        "share_of_encoder": share,
        "cpu_share_of_encoder": cpu_share,
        "second_run_speedup": speedup,
        "second_run_encodes": float(second_encodes),
        "ray_share_of_local": statistics.median(ray) if ray else None,
        "skip_rows_per_second": None,
        "memory_large_over_small": None,
    }
    notes = [
        f"{texts:,} texts (JSON lines) and {images:,} photographs (JPEG files of 640 x 480), new to the cache, in {_ROUNDS} rounds; the "
        "bare encoder and the backfill take turns, each being first in every other round. Ratios are medians of the rounds' own.",
        "The seconds of a backfill are those of planning and running the job in a process that holds the model; the bare encoder's are "
        "of its forward passes alone, with everything tokenized and decoded before.",
        "cpu_share_of_encoder is the same ratio in CPU seconds of the process, all its threads together: on a processor, reading, decoding "
        "and writing take from the encoder's cores, and other work on a shared machine lengthens one turn's wall time and not another's.",
    ]
    if ray:
        notes.append(
            f"Ray: {_RAY_TEXTS:,} new texts by a Ray of this machine with one worker of all cores, and by this process, in turns, "
            f"{_RAY_ROUNDS} rounds; rows a second from the end of the first shard on, so that starting Ray and loading the model count "
            "nothing. The median of the rounds' own ratios."
        )
    if memory is not None:
        small, large = f"{memory.small_mib:,.0f} MiB", f"{memory.large_mib:,.0f} MiB"
        rate = f"{memory.rows_a_second:,.0f}"
        rows.append((f"{_SMALL_ROWS:,} rows, cached", "", "", "", small))
        rows.append((f"{_LARGE_ROWS:,} rows, cached", rate, "", f"{memory.encodes:,}", large))
        keys["skip_rows_per_second"] = memory.rows_a_second
        keys["memory_large_over_small"] = memory.large_mib / memory.small_mib
        notes.append(
            f"Memory: peak resident size of a process of its own that plans and runs a job of generated ids (Parquet), whose texts are "
            f"{_KNOWN_TEXTS:,} that the cache holds, with vectors of 8 components made without a model."
        )
    return Result(_COLUMNS, rows, keys, notes)


if __name__ == "__main__":
    main("backfill", __doc__ or "", measure)
