"""Erasure: by content, space and tenant, on disk and for writers in flight."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from embedder_cache import CacheLocked, CacheSettings, SpaceKey, VectorCache, domain_id, space_key
from embedder_cache.catalogue import Request
from embedder_cache.opening import ask_writer
from embedder_cache.tombstones import Tombstones
from tests.faults.numbered import DIM, SPACE, numbered_hashes, numbered_vectors, space_of

SETTINGS = CacheSettings(max_bytes=16 << 20, generations=4, sample_rate=1)


def put(cache: VectorCache, numbers: range, *, space: SpaceKey = SPACE) -> None:
    cache.put_many(space, numbered_hashes(numbers), numbered_vectors(numbers)).result()


def holds(folder: Path, needle: bytes) -> bool:
    """Search every byte of every file below a folder."""
    return any(needle in path.read_bytes() for path in folder.rglob("*") if path.is_file())


def test_after_erasing_and_compacting_no_file_holds_vector_or_hash(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        for step in range(3):
            put(cache, range(100 * step, 100 * step + 100))
            cache.rotate()
        assert cache.get_many(SPACE, numbered_hashes(range(300))).found.all()
        assert cache.delete_many(SPACE, numbered_hashes(range(0, 300, 2))) == 150
        erased, kept = numbered_vectors([50, 250]), numbered_vectors([51])
        assert not any(holds(tmp_path, vector.tobytes()) for vector in erased), "the bytes go at once"
        cache.compact()
        assert cache.get_many(SPACE, numbered_hashes(range(1, 300, 2))).found.all()
    assert not any(holds(tmp_path, vector.tobytes()) for vector in erased)
    assert not any(holds(tmp_path, numbered_hashes([number])) for number in (0, 50, 250))
    assert holds(tmp_path, kept[0].tobytes())
    assert holds(tmp_path, numbered_hashes([51]))


def test_compacting_keeps_generations_marks_and_their_order(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        put(cache, range(100))
        cache.rotate()
        put(cache, range(100, 150))
        cache.get_many(SPACE, numbered_hashes(range(100)))
        before = cache.generations()
        cache.compact()
        after = cache.generations()
        assert [len(one.index) for one in after] == [50, 100]
        assert [one.row.order for one in after] == [one.row.order for one in before]
        assert {one.sequence for one in after}.isdisjoint(one.sequence for one in before)
        assert after[1].touches
        assert after[1].touches.histogram(era=cache._generations.era)[0] > 0
        put(cache, range(150, 160))
        assert cache.get_many(SPACE, numbered_hashes(range(160))).found.all()


def test_a_space_and_a_tenant_are_erased_whole_and_alone(tmp_path: Path) -> None:
    mine = [space_key(b"mine", bytes([number]) * 32, DIM) for number in (1, 2)]
    theirs = space_key(b"theirs", bytes(32), DIM)
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        for space in mine:
            cache.register_space(space, name="text@1", domain=domain_id(b"mine"))
        for space in (*mine, theirs):
            put(cache, range(50), space=space)
            cache.rotate()
        assert cache.erase_space(mine[0]) == 50
        assert cache.get_many(mine[1], numbered_hashes(range(50))).found.all()
        put(cache, range(50), space=mine[0])
        assert cache.erase_domain(domain_id(b"mine")) == 50, "a space that was erased is no more the tenant's"
        assert not cache.get_many(mine[1], numbered_hashes(range(50))).found.any()
        assert cache.get_many(theirs, numbered_hashes(range(50))).found.all()
        assert set(cache.spaces()) == {mine[0].prefix, theirs.prefix}


def test_a_vector_in_the_making_does_not_come_back_after_its_erasure(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        hashes = numbered_hashes([1, 2, 3])
        vectors = numbered_vectors([1, 2, 3])
        asked_at = cache.get_many(SPACE, hashes).asked_at
        cache.delete_many(SPACE, hashes[:32])
        cache.put_many(SPACE, hashes, vectors, asked_at=asked_at).result()
        assert cache.get_many(SPACE, hashes).found.tolist() == [False, True, True]
        cache.put_many(SPACE, hashes, vectors).result()
        assert cache.get_many(SPACE, hashes).found.all(), "what is asked for anew is stored anew"


def test_each_vector_of_a_put_is_held_against_its_own_time_of_asking(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        before = time.time()
        cache.delete_many(SPACE, numbered_hashes([1, 2]))
        asked_at = np.array([before, time.time() + 1, before])
        cache.put_many(SPACE, numbered_hashes([1, 2, 3]), numbered_vectors([1, 2, 3]), asked_at=asked_at).result()
        assert cache.get_many(SPACE, numbered_hashes([1, 2, 3])).found.tolist() == [False, True, True]


def test_a_put_in_the_queue_is_erased_by_a_later_deletion(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        pending = cache.put_many(SPACE, numbered_hashes(range(500)), numbered_vectors(range(500)))
        assert cache.delete_many(SPACE, numbered_hashes([7])) == 1
        assert pending.done()
        assert not cache.get_many(SPACE, numbered_hashes([7])).found.any()


def test_an_erased_space_takes_no_vector_in_the_making(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        asked_at = time.time()
        cache.erase_space(SPACE)
        cache.put_many(SPACE, numbered_hashes([1]), numbered_vectors([1]), asked_at=asked_at).result()
        assert not cache.get_many(SPACE, numbered_hashes([1])).found.any()


def test_tombstones_are_forgotten_after_an_hour(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    stones = Tombstones()
    stones.add([bytes(48)])
    key = np.zeros((1, 48), np.uint8)
    assert not stones.spare(key, asked_at=999).any()
    now += 4000
    stones.add([b"\1" * 48])
    assert stones.spare(key, asked_at=999).all()


def test_another_process_asks_the_writer_to_erase(tmp_path: Path) -> None:
    other = space_of(5)
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        put(cache, range(20))
        put(cache, range(20), space=other)
        request = Request("erase-hashes", prefix=SPACE.prefix.hex(), hashes=numbered_hashes([3]).hex())
        script = (
            "import sys\nfrom embedder_cache.catalogue import Request\nfrom embedder_cache.opening import ask_writer\n"
            f"ask_writer(sys.argv[1], {request!r}, max_wait_s=20)\n"
            f"ask_writer(sys.argv[1], Request('erase-space', prefix='{other.prefix.hex()}'), max_wait_s=20)\n"
            "ask_writer(sys.argv[1], Request('compact'), max_wait_s=20)\n"
        )
        subprocess.run([sys.executable, "-c", script, os.fspath(tmp_path)], check=True)
        assert cache.get_many(SPACE, numbered_hashes(range(20))).found.sum() == 19
        assert not cache.get_many(other, numbered_hashes(range(20))).found.any()
    assert not holds(tmp_path, numbered_hashes([3]))


def test_a_request_without_a_writer_stays_for_the_next_one(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        put(cache, range(20))
    with pytest.raises(CacheLocked, match="stays asked for"):
        ask_writer(tmp_path, Request("erase-space", prefix=SPACE.prefix.hex()), max_wait_s=0)
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        cache.flush()
        cache.flush()
        assert not cache.get_many(SPACE, numbered_hashes(range(20))).found.any()


def test_a_record_that_was_written_anew_leaves_no_old_bytes(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        put(cache, range(10))
        records = next(tmp_path.glob("generation-*/records"))
        content = bytearray(records.read_bytes())
        at = content.index(numbered_vectors([5]).tobytes())
        with records.open("r+b") as file:
            file.seek(at)
            file.write(bytes([content[at] ^ 1]))
        put(cache, range(10))
        cache.delete_many(SPACE, numbered_hashes([5]))
    assert not holds(tmp_path, numbered_vectors([5]).tobytes()[1:])


def test_what_a_crash_left_uncommitted_is_wiped(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        put(cache, range(10))
        generation = cache.generations()[0]
        generation.slab.write(generation.end_block, np.full((1, 256), 77, np.uint8))
    assert holds(tmp_path, bytes([77]) * 256)
    with VectorCache.open(tmp_path, SETTINGS) as cache:
        assert cache.get_many(SPACE, numbered_hashes(range(10))).found.all()
        assert not holds(tmp_path, bytes([77]) * 256)
