"""Damage: flipped bits, cut files, full disks. The cache goes on, and serves no wrong vector."""

from __future__ import annotations

import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedder_cache import CacheDamaged, CacheSettings, VectorCache
from embedder_cache.key import pack_keys
from tests.faults.numbered import SPACE, numbered_hashes, numbered_vectors

SETTINGS = CacheSettings(max_bytes=16 << 20, generations=4, sample_rate=0)
NUMBERS = range(600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed cache of three generations with 200 entries each."""
    with VectorCache.open(tmp_path / "cache", SETTINGS) as cache:
        for start in (0, 200, 400):
            numbers = range(start, start + 200)
            cache.put_many(SPACE, numbered_hashes(numbers), numbered_vectors(numbers)).result()
            if start < 400:
                cache.rotate()
    return tmp_path / "cache"


def check(cache: VectorCache) -> int:
    """Assert that nothing wrong is served, and count what is found."""
    lookup = cache.get_many(SPACE, numbered_hashes(NUMBERS))
    assert np.array_equal(lookup.vectors[lookup.found], numbered_vectors(NUMBERS)[lookup.found])
    assert not lookup.vectors[~lookup.found].any()
    return int(lookup.found.sum())


def put_all(cache: VectorCache) -> None:
    cache.put_many(SPACE, numbered_hashes(NUMBERS), numbered_vectors(NUMBERS)).result()


def test_fifty_cut_files_cost_their_contents_and_never_the_process(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    choice = random.Random(3)
    names = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    names = [name for name in names if name.name != "lock.mdb"]
    caplog.set_level(logging.CRITICAL)
    for round_number in range(50):
        name = names[round_number % len(names)]
        damaged = tmp_path / f"round-{round_number}"
        shutil.copytree(folder, damaged, ignore=shutil.ignore_patterns("lock.mdb"))
        os.truncate(damaged / name, choice.randrange((damaged / name).stat().st_size))
        if name.parts[0] != "catalogue":
            with VectorCache.open(damaged, SETTINGS, read_only=True) as reader:
                check(reader)
        with VectorCache.open(damaged, SETTINGS) as cache:
            check(cache)
            put_all(cache)
            assert check(cache) == 600
        shutil.rmtree(damaged)


def test_a_cut_generation_is_set_aside_and_the_others_serve_on(folder: Path) -> None:
    os.truncate(folder / "generation-00000002" / "records", 1000)
    with VectorCache.open(folder, SETTINGS, read_only=True) as reader:
        assert check(reader) == 400
    with VectorCache.open(folder, SETTINGS) as cache:
        assert check(cache) == 400
        assert cache.stats().quarantined == 1
        put_all(cache)
        assert check(cache) == 600
    assert [path.name.rpartition("-")[0] for path in (folder / "quarantine").iterdir()] == ["generation-00000002"]


def test_a_slab_cut_while_it_is_open_is_noticed_before_it_is_read(folder: Path) -> None:
    with VectorCache.open(folder, SETTINGS) as cache:
        assert check(cache) == 600
        os.truncate(folder / "generation-00000003" / "records", 100)
        assert check(cache) == 400
        cache.flush()
        assert cache.stats().quarantined == 1
        put_all(cache)
        assert check(cache) == 600


def test_a_flipped_bit_is_a_miss_a_count_and_a_line(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    _flip(folder / "generation-00000001" / "records", 64 * 8 * 20 + 700)
    with VectorCache.open(folder, SETTINGS) as cache:
        assert check(cache) == 599
        assert cache.stats().damaged == 1
        assert "1 records did not check out" in caplog.text
        put_all(cache)
        assert check(cache) == 600, "a damaged record is written anew"


def _flip(path: Path, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def test_a_lost_catalogue_is_rebuilt_from_the_folders(folder: Path) -> None:
    (folder / "catalogue" / "data.mdb").write_bytes(b"nothing")
    with pytest.raises(CacheDamaged):
        VectorCache.open(folder, SETTINGS, read_only=True)
    with VectorCache.open(folder, SETTINGS) as cache:
        assert check(cache) == 600
        assert cache.stats().entries == 600


def test_erasing_by_a_damaged_pointer_leaves_its_neighbour_alone(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        put_all(cache)
        generation = cache.generations()[0]
        keys = pack_keys(SPACE.prefix, numbered_hashes([1, 2, 3]))
        blocks = generation.index.find(keys)
        wrong = np.array([blocks[1], 1 << 40, -5])
        generation.index.commit(keys[[0, 1, 2]], wrong, end_block=generation.end_block)
        assert cache.delete_many(SPACE, numbered_hashes([1, 3])) == 2
        assert check(cache) == 598, "2 is found by the guide, and 1 and 3 are not"
        assert generation.file_bytes < SETTINGS.max_bytes


def test_what_a_crash_left_unregistered_is_removed(folder: Path) -> None:
    (folder / "generation-00000099" / "index").mkdir(parents=True)
    with VectorCache.open(folder, SETTINGS) as cache:
        assert check(cache) == 600
    assert not (folder / "generation-00000099").exists()


@pytest.mark.parametrize("flips", [60])
def test_no_flipped_bit_serves_a_wrong_vector(flips: int) -> None:
    _run_program("bit_flips", "--flips", str(flips), "--seed", "5")


def test_no_kill_loses_what_was_acknowledged() -> None:
    _run_program("kill_writer", "--kills", "50", "--seed", "5")


def _run_program(name: str, *arguments: str) -> None:
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    answer = subprocess.run(
        [sys.executable, "-m", f"tests.faults.{name}", *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_a_full_disk_fails_puts_clearly_and_heals_without_a_restart(tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: the same calls fail, and no root is needed."""
    script = """
import resource, sys, logging
from embedder_cache import CacheSettings, CacheWriteFailed, VectorCache
from tests.faults.numbered import SPACE, numbered_hashes, numbered_vectors

def put(start, count):
    numbers = range(start, start + count)
    cache.put_many(SPACE, numbered_hashes(numbers), numbered_vectors(numbers)).result()

def found(start, count):
    return int(cache.get_many(SPACE, numbered_hashes(range(start, start + count))).found.sum())

logging.basicConfig(stream=sys.stdout, format="log: %(message)s")
with VectorCache.open(sys.argv[1], CacheSettings(max_bytes=64 << 20, sample_rate=0)) as cache:
    put(0, 500)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    failed = 0
    for start in range(500, 10_500, 500):
        try:
            put(start, 500)
        except CacheWriteFailed:
            failed += 1
            kept = start
    assert failed > 5, failed
    assert found(0, 500) == 500
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    put(0, 10_500)
    assert found(0, 10_500) == 10_500
with VectorCache.open(sys.argv[1], CacheSettings(max_bytes=64 << 20, sample_rate=0)) as cache:
    assert found(0, 10_500) == 10_500
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    answer = subprocess.run(
        [sys.executable, "-c", script, os.fspath(tmp_path / "cache")],
        cwd=Path(__file__).parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert answer.stdout.count("can't write") == 1, answer.stdout
    assert answer.stdout.count("writes again") == 1
