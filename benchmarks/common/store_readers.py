"""Reader processes: each reads random batches from a store for a while when it is told to, and counts."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from benchmarks.common.stores import SPACE, RawLmdb
from embedder_cache import CacheSettings, VectorCache

_BATCH = 256


def _read(pipe: Connection, kind: str, path: Path, hash_file: Path) -> None:
    """Warm up, then read for as many seconds as each message says, and answer with vectors a second."""
    hashes = np.load(hash_file)
    if kind == "ours":
        cache = VectorCache.open(path, CacheSettings(max_bytes=64 << 30), read_only=True)

        def get(batch: bytes) -> object:
            return cache.get_many(SPACE, batch).vectors

    else:
        raw = RawLmdb(path, read_only=True)

        def get(batch: bytes) -> object:
            return raw.get(batch)

    for start in range(0, len(hashes), 4096):
        get(hashes[start : start + 4096].tobytes())
    random = np.random.default_rng()
    pipe.send(0.0)
    while seconds := pipe.recv():
        batches = [hashes[random.integers(0, len(hashes), _BATCH)].tobytes() for _ in range(200)]
        count = 0
        start_s = time.perf_counter()
        while (elapsed := time.perf_counter() - start_s) < seconds:
            get(batches[count % len(batches)])
            count += 1
        pipe.send(count * _BATCH / elapsed)


@contextmanager
def readers(kind: str, path: Path, hash_file: Path, *, count: int) -> Iterator[list[Connection]]:
    """Start `count` reader processes of a store, "ours" or "raw", and yield a pipe to each, once all are warm."""
    context = multiprocessing.get_context("spawn")
    pipes: list[Connection] = []
    processes = []
    for _ in range(count):
        ours, theirs = context.Pipe()
        process = context.Process(target=_read, args=(theirs, kind, path, hash_file), daemon=True)
        process.start()
        pipes.append(ours)
        processes.append(process)
    for pipe in pipes:
        pipe.recv()
    try:
        yield pipes
    finally:
        for pipe in pipes:
            pipe.send(0)
        for process in processes:
            process.join()


def total_rate(pipes: Sequence[Connection], seconds: float) -> float:
    """Let readers read at once; returns the vectors a second of all together."""
    for pipe in pipes:
        pipe.send(seconds)
    return float(sum(pipe.recv() for pipe in pipes))
