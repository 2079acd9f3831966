"""The cache beside raw py-lmdb, SQLite and Valkey, on the same million entries, in turns.

Every answer is one packed matrix of 384 float16 components a row. Ours checks every record's checksum and key; the peers
check nothing. `--full` adds five million entries beside a hundred thousand.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.common.run import Result, main
from benchmarks.common.store_readers import readers, total_rate
from benchmarks.common.stores import DIM, SPACE, OurCache, RawLmdb, Sqlite, Store, Valkey, fill
from embedder_cache.key import pack_keys
from embedder_cache.record import RecordLayout
from embedder_client.content_hash import Modality, hash_content

_ENTRIES = 1_000_000
_SMALL_ENTRIES = 100_000
_LARGE_ENTRIES = 5_000_000
_BATCHES = (1, 16, 256)
_ROUNDS = 15
_CALLS = {1: 400, 16: 100, 256: 24}
_PUT_ROUNDS = 8
_READER_ROUNDS = 5
_READER_S = 1.0
_CONTENT_BYTES = 200

_COLUMNS = (
    "store",
    "get 1 us",
    "get 16 us each",
    "get 256 us each",
    "vectors/s",
    "put 1 us",
    "put 16 us each",
    "put 256 us each",
)
_NOTES = (
    f"{_ENTRIES:,} entries of {DIM} float16 components under random keys, loaded in random order, pages warm. Gets: medians of "
    f"{_ROUNDS} rounds, in each of which every store reads random batches in turn; ratios are medians of the rounds' own.",
    "All start from content hashes. Puts return when a killed process does not lose them (ours and py-lmdb: metasync off; "
    "SQLite: WAL, synchronous=NORMAL; Valkey: in memory only).",
    "Other work ran on this shared machine at the same time, as the load in the hardware's description says: compare ratios.",
)

Hashes = npt.NDArray[np.uint8]


def _median_us(run: Callable[[bytes], object], batches: Sequence[bytes]) -> float:
    """Time each batch on its own; returns the median in microseconds."""
    times = []
    for batch in batches:
        start = time.perf_counter()
        run(batch)
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def _random_batches(hashes: Hashes, *, size: int, count: int, random: np.random.Generator) -> list[bytes]:
    return [hashes[random.integers(0, len(hashes), size)].tobytes() for _ in range(count)]


def _measure_gets(stores: Sequence[Store], hashes: Hashes, *, size: int) -> dict[str, list[float]]:
    """Read in turns: for each store one figure a round, in microseconds a vector."""
    random = np.random.default_rng(size)
    found: dict[str, list[float]] = {store.name: [] for store in stores}
    for _ in range(_ROUNDS):
        for store in stores:
            batches = _random_batches(hashes, size=size, count=_CALLS[size], random=random)
            found[store.name].append(_median_us(store.get, batches) / size)
    return found


def _measure_contents(ours: OurCache, raw: RawLmdb, *, seed: int) -> float:
    """Compare 256 lookups from content bytes with raw reads from ready keys; returns raw's time over ours."""
    random = np.random.default_rng(seed)
    contents = [random.bytes(_CONTENT_BYTES) for _ in range(20_000)]
    packed = np.frombuffer(b"".join([hash_content(Modality.TEXT, one) for one in contents]), np.uint8).reshape(-1, 32)
    for store in (ours, raw):
        fill(store, packed, seed=seed)
    ours.wait_for_guide()

    def from_contents(chosen: Sequence[bytes]) -> object:
        return ours.get(b"".join([hash_content(Modality.TEXT, one) for one in chosen]))

    ratios = []
    for _ in range(_ROUNDS):
        picks = [random.integers(0, len(contents), 256) for _ in range(_CALLS[256])]
        mine, theirs = [], []
        for pick in picks:
            chosen = [contents[index] for index in pick]
            keys = raw.keys(packed[pick].tobytes())
            start = time.perf_counter()
            from_contents(chosen)
            middle = time.perf_counter()
            raw.get_keys(keys)
            mine.append(middle - start)
            theirs.append(time.perf_counter() - middle)
        ratios.append(statistics.median(theirs) / statistics.median(mine))
    return statistics.median(ratios)


def _measure_against_raw_keys(ours: OurCache, raw: RawLmdb, hashes: Hashes) -> float:
    """Compare 256 lookups from content hashes with raw reads from ready keys; returns raw's time over ours."""
    random = np.random.default_rng(9)
    ratios = []
    for _ in range(_ROUNDS):
        theirs = []
        mine = [
            _median_us(ours.get, [batch])
            for batch in _random_batches(hashes, size=256, count=_CALLS[256], random=random)
        ]
        for batch in _random_batches(hashes, size=256, count=_CALLS[256], random=random):
            keys = raw.keys(batch)
            start = time.perf_counter()
            raw.get_keys(keys)
            theirs.append((time.perf_counter() - start) * 1e6)
        ratios.append(statistics.median(theirs) / statistics.median(mine))
    return statistics.median(ratios)


def _measure_puts(stores: Sequence[Store], *, size: int) -> dict[str, float]:
    """Put fresh entries in turns; returns medians in microseconds a vector."""
    random = np.random.default_rng(100 + size)
    found: dict[str, list[float]] = {store.name: [] for store in stores}
    for _ in range(_PUT_ROUNDS):
        for store in stores:
            vectors = random.standard_normal((size, DIM)).astype(np.float16)
            batches = [random.bytes(32 * size) for _ in range(4)]
            found[store.name].append(_median_us(partial(store.put, vectors=vectors), batches) / size)
    return {name: statistics.median(times) for name, times in found.items()}


def _measure_readers(kind: str, path: Path, hash_file: Path) -> tuple[float, float]:
    """Measure the rate of one reader process and of two at once, in turns; returns medians of vectors a second."""
    with readers(kind, path, hash_file, count=2) as pipes:
        single, double = [], []
        for _ in range(_READER_ROUNDS):
            single.append(total_rate(pipes[:1], _READER_S))
            double.append(total_rate(pipes, _READER_S))
    return statistics.median(single), statistics.median(double)


def _measure_parts(ours: OurCache, hashes: Hashes) -> list[tuple[str, float]]:
    """Time the parts of a hit in batches of 256, in microseconds a vector."""
    layout = RecordLayout(DIM)
    guide = ours.cache._generations.guide
    generation = ours.cache.generations()[0]
    if guide is None:
        raise RuntimeError("there is no guide")
    random = np.random.default_rng(4)
    contents = [random.bytes(_CONTENT_BYTES) for _ in range(256)]
    times: dict[str, list[float]] = {}
    for batch in _random_batches(hashes, size=256, count=300, random=random):
        marks = [("", time.perf_counter())]
        b"".join([hash_content(Modality.TEXT, one) for one in contents])
        marks.append((f"content hash of {_CONTENT_BYTES} B", time.perf_counter()))
        keys = pack_keys(SPACE.prefix, batch)
        marks.append(("keys with prefix", time.perf_counter()))
        _, blocks = guide.guess(keys)
        marks.append(("guide", time.perf_counter()))
        records = generation.slab.gather(blocks, record_blocks=layout.blocks)
        marks.append(("read", time.perf_counter()))
        layout.check(records, keys)
        marks.append(("key echo and checksum", time.perf_counter()))
        layout.vectors(records)
        marks.append(("assembly", time.perf_counter()))
        ours.get(batch)
        marks.append(("all of get_many", time.perf_counter()))
        for (_, before), (name, after) in pairwise(marks):
            times.setdefault(name, []).append((after - before) / 256 * 1e6)
    return [(name, statistics.median(values)) for name, values in times.items()]


def _measure_growth(folder: Path, console: Console) -> float:
    """Compare lookups of 256 in five million entries with those in a hundred thousand; returns the ratio of rates."""
    with ExitStack() as stack:
        caches = []
        for entries in (_SMALL_ENTRIES, _LARGE_ENTRIES):
            console.print(f"filling {entries:,} entries")
            hashes = np.frombuffer(np.random.default_rng(entries).bytes(32 * entries), np.uint8).reshape(-1, 32)
            cache = OurCache(folder / f"ours-{entries}")
            stack.callback(cache.close)
            fill(cache, hashes, seed=entries)
            _warm(cache, hashes)
            caches.append((cache, hashes))
        ratios = []
        random = np.random.default_rng(6)
        for _ in range(2 * _ROUNDS):
            small, large = (
                _median_us(cache.get, _random_batches(hashes, size=256, count=_CALLS[256], random=random))
                for cache, hashes in caches
            )
            ratios.append(small / large)
    return statistics.median(ratios)


def _warm(cache: OurCache, hashes: Hashes) -> None:
    cache.wait_for_guide()
    for start in range(0, len(hashes), 4096):
        cache.get(hashes[start : start + 4096].tobytes())


def measure(full: bool, console: Console) -> Result:
    """Run everything; takes a few minutes, and about 10 GB of disk with `full`."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-cache-"))
    try:
        return _measure(folder, full, console)
    finally:
        shutil.rmtree(folder)


def _measure(folder: Path, full: bool, console: Console) -> Result:
    hashes = np.frombuffer(np.random.default_rng(1).bytes(32 * _ENTRIES), np.uint8).reshape(-1, 32)
    np.save(folder / "hashes.npy", hashes)
    with ExitStack() as stack:
        ours, raw = OurCache(folder / "ours"), RawLmdb(folder / "raw")
        stores: list[Store] = [ours, raw, Sqlite(folder / "sqlite"), Valkey(folder / "valkey")]
        for store in stores:
            stack.callback(store.close)
            console.print(f"filling {store.name}")
            fill(store, hashes, seed=2)
        bytes_per_entry = ours.cache.stats().file_bytes / _ENTRIES
        _warm(ours, hashes)
        raw.touch_all()
        console.print("reading in turns")
        gets = {size: _measure_gets(stores, hashes, size=size) for size in _BATCHES}
        hash_ratio = _measure_against_raw_keys(ours, raw, hashes)
        parts = _measure_parts(ours, hashes)
        content_ratio = _measure_contents(ours, raw, seed=3)
        console.print("putting in turns")
        puts = {size: _measure_puts(stores, size=size) for size in _BATCHES}
    console.print("reading with two processes")
    single, double = _measure_readers("ours", folder / "ours", folder / "hashes.npy")
    raw_single, raw_double = _measure_readers("raw", folder / "raw", folder / "hashes.npy")
    growth = _measure_growth(folder, console) if full else None

    def ratio(name: str) -> float:
        pairs = zip(gets[256][name], gets[256][ours.name], strict=True)
        return statistics.median([theirs / mine for theirs, mine in pairs])

    rows = [
        (
            store.name,
            *(f"{statistics.median(gets[size][store.name]):.2f}" for size in _BATCHES),
            f"{1e6 / statistics.median(gets[256][store.name]):,.0f}",
            *(f"{puts[size][store.name]:.1f}" for size in _BATCHES),
        )
        for store in stores
    ]
    shares = "; ".join(f"{name} {microseconds:.3f}" for name, microseconds in parts)
    return Result(
        columns=_COLUMNS,
        rows=rows,
        keys={
            "hash256_vs_raw": hash_ratio,
            "content256_vs_raw": content_ratio,
            "vs_sqlite": ratio("SQLite"),
            "vs_valkey": ratio("Valkey, Unix socket"),
            "two_readers": double / single,
            "five_million_vs_100k": growth,
            "bytes_per_entry": bytes_per_entry,
        },
        notes=(
            *_NOTES,
            f"Where a hit's time goes, us a vector in batches of 256: {shares}.",
            f"Reader processes, vectors/s: one {single:,.0f}, two {double:,.0f}; py-lmdb: one {raw_single:,.0f}, two {raw_double:,.0f}.",
        ),
    )


if __name__ == "__main__":
    main("cache", __doc__ or "", measure)
