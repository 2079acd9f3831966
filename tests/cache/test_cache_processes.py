"""Many processes on one cache: killed readers, forks, growing maps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from embedder_cache import CacheForked, CacheLocked, CacheSettings, VectorCache
from embedder_cache.gate import Gate
from tests.faults.numbered import SPACE, numbered_hashes, numbered_vectors

KILLED_READERS = 200


def put(cache: VectorCache, numbers: range) -> None:
    cache.put_many(SPACE, numbered_hashes(numbers), numbered_vectors(numbers)).result()


def test_two_hundred_readers_killed_in_mid_read_refuse_no_later_one(tmp_path: Path) -> None:
    settings = CacheSettings(max_bytes=16 << 20, max_readers=16, sample_rate=0)
    with VectorCache.open(tmp_path, settings) as cache:
        put(cache, range(300))
    script = f"""
import os, signal, sys
from embedder_cache import CacheSettings, VectorCache
from tests.faults.numbered import SPACE, numbered_hashes

settings = CacheSettings(max_bytes=16 << 20, max_readers=16, sample_rate=0)
hashes = numbered_hashes(range(300))
for number in range({KILLED_READERS}):
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        reader = VectorCache.open(sys.argv[1], settings, read_only=True)
        assert reader.get_many(SPACE, hashes).found.all()
        held = [generation.index._environment.begin() for generation in reader.generations()]
        os.write(send, b"!")
        signal.pause()
    os.close(send)
    assert os.read(receive, 1) == b"!", number
    os.close(receive)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run(
        [sys.executable, "-c", script, os.fspath(tmp_path)], cwd=Path(__file__).parents[2], env=environment, check=True
    )
    with VectorCache.open(tmp_path, settings) as cache:
        assert cache.get_many(SPACE, numbered_hashes(range(300))).found.all()
        put(cache, range(300, 600))
        assert cache.get_many(SPACE, numbered_hashes(range(600))).found.all()


def test_a_forked_child_is_told_to_open_anew(tmp_path: Path) -> None:
    script = """
import os, sys, warnings
warnings.simplefilter("ignore")
from embedder_cache import CacheForked, VectorCache
from tests.faults.numbered import SPACE, numbered_hashes, numbered_vectors

with VectorCache.open(sys.argv[1]) as cache:
    cache.put_many(SPACE, numbered_hashes([1]), numbered_vectors([1])).result()
    child = os.fork()
    if not child:
        told = 0
        for call in (
            lambda: cache.get_many(SPACE, numbered_hashes([1])),
            lambda: cache.put_many(SPACE, numbered_hashes([2]), numbered_vectors([2])),
            lambda: cache.delete_many(SPACE, numbered_hashes([1])),
            lambda: cache.stats(),
        ):
            try:
                call()
            except CacheForked:
                told += 1
        cache.close()
        os._exit(0 if told == 4 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert cache.get_many(SPACE, numbered_hashes([1])).found.all()
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    subprocess.run(
        [sys.executable, "-c", script, os.fspath(tmp_path)], cwd=Path(__file__).parents[2], env=environment, check=True
    )


def test_the_process_that_opened_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with VectorCache.open(tmp_path) as cache:
        real = os.getpid()
        monkeypatch.setattr(os, "getpid", lambda: real + 1)
        with pytest.raises(CacheForked):
            cache.get_many(SPACE, numbered_hashes([1]))
        monkeypatch.undo()


def test_one_process_opens_a_cache_once(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path) as cache:
        put(cache, range(10))
        with pytest.raises(CacheLocked, match="already open"):
            VectorCache.open(tmp_path, read_only=True)
        assert cache.get_many(SPACE, numbered_hashes(range(10))).found.all()
        assert cache.stats().quarantined == 0


def test_a_growing_map_stops_no_reader(tmp_path: Path) -> None:
    settings = CacheSettings(max_bytes=256 << 20, sample_rate=0)
    script = """
import sys
from embedder_cache import CacheSettings, VectorCache
from tests.faults.numbered import SPACE, numbered_hashes

with VectorCache.open(sys.argv[1], CacheSettings(max_bytes=256 << 20, sample_rate=0), read_only=True) as reader:
    for line in sys.stdin:
        count = int(line)
        reader._generations.guide = None
        print(int(reader.get_many(SPACE, numbered_hashes(range(count))).found.sum()), flush=True)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with (
        VectorCache.open(tmp_path, settings) as cache,
        subprocess.Popen(
            [sys.executable, "-c", script, os.fspath(tmp_path)],
            cwd=Path(__file__).parents[2],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader,
    ):
        assert reader.stdin
        assert reader.stdout
        for step in range(8):
            put(cache, range(4000 * step, 4000 * step + 4000))
            reader.stdin.write(f"{4000 * step + 4000}\n")
            reader.stdin.flush()
            assert int(reader.stdout.readline()) == 4000 * step + 4000
        assert cache.generations()[0].index._environment.info()["map_size"] > 4 << 20
        reader.stdin.close()


def test_threads_read_while_the_map_grows_and_generations_go(tmp_path: Path) -> None:
    settings = CacheSettings(max_bytes=8 << 20, generations=3, sample_rate=0)
    stop = threading.Event()
    wrong: list[str] = []

    def read() -> None:
        choice = np.random.default_rng()
        while not stop.is_set():
            numbers = choice.integers(0, 20_000, 64)
            lookup = cache.get_many(SPACE, numbered_hashes(numbers))
            if not np.array_equal(lookup.vectors[lookup.found], numbered_vectors(numbers)[lookup.found]):
                wrong.append("a wrong vector")

    with VectorCache.open(tmp_path, settings) as cache:
        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for step in range(20):
            put(cache, range(1000 * step, 1000 * step + 1000))
        stop.set()
        for thread in threads:
            thread.join()
        stats = cache.stats()
    assert not wrong
    assert stats.damaged == stats.quarantined == 0
    assert stats.evicted > 0


def test_an_exclusive_passage_waits_for_those_inside_and_keeps_others_out() -> None:
    gate = Gate()
    entered = threading.Event()
    order: list[str] = []

    def alone() -> None:
        with gate.exclusive():
            order.append("alone")

    def together() -> None:
        entered.set()
        with gate.shared():
            order.append("together")

    with gate.shared():
        closer = threading.Thread(target=alone)
        closer.start()
        while not gate._closed:
            pass
        late = threading.Thread(target=together)
        late.start()
        entered.wait()
        order.append("inside")
    closer.join()
    late.join()
    assert order == ["inside", "alone", "together"]
