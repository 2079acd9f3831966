"""The limit on disk: generations begin, retire and go; what is asked for stays."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from embedder_cache import CacheSettings, VectorCache, space_key
from embedder_cache.guide import Guide
from embedder_cache.index import Index
from embedder_cache.key import pack_keys
from embedder_cache.retiring import KeepRule, Retirement
from embedder_cache.touches import TouchMap
from tests.faults.numbered import DIM, SPACE, numbered_hashes, numbered_vectors

MEBIBYTE = 1 << 20
WIDE = space_key(b"wide", bytes(32), 384)
WIDE_BYTES = 832
SMALL = CacheSettings(max_bytes=8 * MEBIBYTE, generations=4, sample_rate=0)


def put(cache: VectorCache, numbers: range | list[int]) -> None:
    cache.put_many(SPACE, numbered_hashes(numbers), numbered_vectors(numbers)).result()


def held(cache: VectorCache, numbers: range | list[int]) -> np.ndarray:
    return cache.get_many(SPACE, numbered_hashes(numbers)).found


def put_wide(cache: VectorCache, numbers: range | list[int]) -> None:
    """Put records of more than 512 bytes: each has a mark of its own."""
    cache.put_many(WIDE, numbered_hashes(numbers), numbered_vectors(numbers, dim=WIDE.dim)).result()


def held_wide(cache: VectorCache, numbers: range | list[int]) -> np.ndarray:
    return cache.get_many(WIDE, numbered_hashes(numbers)).found


def wait_for_guide(cache: VectorCache) -> Guide:
    """Wait until every key was entered into the guide."""
    while True:
        cache.flush()
        guide = cache._generations.guide
        if guide and guide.has_room_for(cache.stats().entries) and cache._catalogue.is_guide_filled(guide.identity):
            return guide


def settle(cache: VectorCache) -> None:
    """Wait until no generation is retiring."""
    while len(cache.generations()) > SMALL.generations:
        cache.flush()


def test_the_files_keep_their_limit_under_churn_of_five_times_the_capacity(tmp_path: Path) -> None:
    written = largest = 0
    with VectorCache.open(tmp_path, SMALL) as cache:
        while written * WIDE_BYTES < 5 * SMALL.max_bytes:
            put_wide(cache, range(written, written + 1500))
            written += 1500
            largest = max(largest, cache.stats().file_bytes)
        stats = cache.stats()
        assert held_wide(cache, range(written - 1500, written)).all()
    assert largest <= SMALL.max_bytes
    assert stats.evicted > 3 * stats.entries
    assert stats.rotations > 15


def test_what_is_asked_for_outlives_its_generation_and_the_rest_goes(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SMALL) as cache:
        put_wide(cache, range(500))
        for step in range(1, 25):
            assert held_wide(cache, range(0, 500, 10)).all(), step
            put_wide(cache, range(1000 * step, 1000 * step + 1000))
        settle(cache)
        assert held_wide(cache, range(0, 500, 10)).all()
        assert not held_wide(cache, [number for number in range(500) if number % 10]).any()
        assert cache.stats().copied_forward >= 50
        assert cache.stats().evicted > 5_000


def test_the_limit_holds_when_everything_is_asked_for_all_the_time(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SMALL) as cache:
        for step in range(40):
            put(cache, range(1000 * step, 1000 * step + 1000))
            held(cache, range(1000 * step + 1000))
            assert cache.stats().file_bytes <= 1.05 * SMALL.max_bytes, step
        assert cache.stats().evicted > 10_000
        assert held(cache, range(39_000, 40_000)).all()


def test_pinned_spaces_outlive_their_generation_unasked(tmp_path: Path) -> None:
    pinned = space_key(b"pinned", bytes(32), DIM)
    with VectorCache.open(tmp_path, SMALL) as cache:
        cache.register_space(pinned, name="pinned@1", pinned=True)
        cache.put_many(pinned, numbered_hashes(range(500)), numbered_vectors(range(500))).result()
        for step in range(40):
            put(cache, range(1000 * step, 1000 * step + 1000))
        settle(cache)
        assert cache.get_many(pinned, numbered_hashes(range(500))).found.all()
        assert not held(cache, range(500)).any()


def test_the_hit_rate_on_a_zipf_trace_is_near_an_exact_lru_of_the_same_bytes(tmp_path: Path) -> None:
    settings = CacheSettings(max_bytes=24 * MEBIBYTE, max_readers=64, sample_rate=0)
    contents, accesses, batch = 100_000, 180_000, 500
    random = np.random.default_rng(11)
    weights = np.arange(1, contents + 1) ** -1.0
    ranks = np.searchsorted(np.cumsum(weights / weights.sum()), random.random(accesses))
    trace = random.permutation(contents)[np.minimum(ranks, contents - 1)]
    with VectorCache.open(tmp_path, settings) as cache:
        ours = 0
        for start in range(0, accesses, batch):
            numbers = trace[start : start + batch]
            found = held_wide(cache, numbers.tolist())
            ours += int(found.sum()) * (start >= accesses // 2)
            put_wide(cache, np.unique(numbers[~found]).tolist())
        assert cache.stats().evicted > 0
        assert cache.stats().file_bytes <= settings.max_bytes
    exact = count_lru_hits(trace, capacity=settings.max_bytes // WIDE_BYTES)  # records, and nothing for an index
    assert (exact - ours) / (accesses // 2) <= 0.05


def count_lru_hits(trace: np.ndarray, *, capacity: int) -> int:
    """Count the hits of an exact LRU in the second half of a trace."""
    lru: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for position, number in enumerate(trace.tolist()):
        if number in lru:
            lru.move_to_end(number)
            hits += position >= len(trace) // 2
            continue
        lru[number] = None
        if len(lru) > capacity:
            lru.popitem(last=False)
    return hits


def test_expired_vectors_are_misses_and_may_be_put_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = CacheSettings(max_bytes=8 * MEBIBYTE, generations=4, time_to_live_s=300, sample_rate=0)
    clock = Clock(monkeypatch)
    with VectorCache.open(tmp_path, settings) as cache:
        put(cache, range(100))
        clock.advance(200)
        assert held(cache, range(100)).all()
        clock.advance(150)
        assert not held(cache, range(100)).any()
        assert cache.stats().expired == 100
        put(cache, range(100))
        assert held(cache, range(100)).all()


def test_expired_bytes_leave_the_disk_without_any_put(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = CacheSettings(max_bytes=8 * MEBIBYTE, generations=4, time_to_live_s=300, sample_rate=0)
    clock = Clock(monkeypatch)
    with VectorCache.open(tmp_path, settings) as cache:
        put(cache, range(100))
        for _ in range(8):
            clock.advance(100)
            cache.flush()
            cache.flush()
        assert cache.stats().entries == 0
    needle = numbered_vectors([5])[0].tobytes()
    assert not any(needle in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


class Clock:
    """Sets the wall clock that the cache reads forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import time

        real, self._ahead = time.time, 0.0
        monkeypatch.setattr(time, "time", lambda: real() + self._ahead)

    def advance(self, seconds: float) -> None:
        self._ahead += seconds


def test_a_small_cache_takes_batches_larger_than_a_generation(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SMALL) as cache:
        put(cache, range(20_000))
        assert cache.stats().file_bytes <= SMALL.max_bytes
        assert held(cache, range(19_000, 20_000)).all()


def test_lookups_of_many_generations_need_no_index_where_the_guide_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with VectorCache.open(tmp_path, CacheSettings(max_bytes=64 * MEBIBYTE, generations=8, sample_rate=0)) as cache:
        for step in range(6):
            put(cache, range(500 * step, 500 * step + 500))
            cache.rotate()
        wait_for_guide(cache)
        asked = 0
        find = Index.find

        def count_keys(index: Index, keys: np.ndarray) -> np.ndarray:
            nonlocal asked
            asked += len(keys)
            return find(index, keys)

        monkeypatch.setattr(Index, "find", count_keys)
        assert held(cache, range(3000)).all()
        assert asked < 100
        assert sum(generation.hits > 0 for generation in cache.stats().generations) == 6


def test_a_missing_or_foreign_guide_costs_no_hit(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, SMALL) as cache:
        put(cache, range(500))
    guide = (tmp_path / "guide").read_bytes()
    for content in (None, b"", b"x" * 1000, bytes(len(guide)), np.random.default_rng(0).bytes(len(guide))):
        (tmp_path / "guide").unlink()
        if content is not None:
            (tmp_path / "guide").write_bytes(content)
        with VectorCache.open(tmp_path, SMALL, read_only=True) as reader:
            assert held(reader, range(500)).all()
            assert reader.stats().damaged == 0
        with VectorCache.open(tmp_path, SMALL) as cache:
            assert held(cache, range(500)).all()


def test_the_guide_grows_and_is_filled_again(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, CacheSettings(max_bytes=64 * MEBIBYTE, sample_rate=0)) as cache:
        for step in range(6):
            put(cache, range(2000 * step, 2000 * step + 2000))
        _, blocks = wait_for_guide(cache).guess(pack_keys(SPACE.prefix, numbered_hashes(range(12_000))))
        assert np.count_nonzero(blocks) > 11_900


def test_a_full_bucket_gives_up_its_oldest_generation(tmp_path: Path) -> None:
    guide = Guide.create(tmp_path / "guide", entries=0)
    keys = np.zeros((9, 48), np.uint8)
    keys[:, 31] = np.arange(9) * 16  # another tag, the same bucket
    for row in range(8):
        guide.insert(keys[row : row + 1], np.array([row + 1]), sequence=row + 1, live=range(1, 10))
    guide.insert(keys[8:], np.array([99]), sequence=9, live=range(1, 10))
    numbers, blocks = guide.guess(keys)
    assert blocks.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 99]
    assert numbers.tolist()[1:] == [2, 3, 4, 5, 6, 7, 8, 9]


def test_marks_tell_the_age_of_the_last_hit_in_eras(tmp_path: Path) -> None:
    touches = TouchMap(tmp_path / "touched", max_blocks=8 * 64, create=True)
    for block, era in ((8, 250), (16, 254), (24, 257)):
        touches.mark(np.array([block]), era=era)
    touches.mark(np.array([10**9]), era=257)  # outside of the map: left alone
    assert touches.ages(np.array([0, 8, 16, 24]), era=257).tolist() == [-1, 7, 3, 0]
    assert np.flatnonzero(touches.histogram(era=257)).tolist() == [0, 3, 7]


def test_the_room_for_copies_goes_to_the_latest_hits(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, CacheSettings(max_bytes=64 * MEBIBYTE, sample_rate=0)) as cache:
        put_wide(cache, range(900))
        oldest = cache.generations()[0]
        assert oldest.touches
        blocks = np.sort(np.concatenate([blocks for _, blocks in oldest.index.scan()]))
        for era in (1, 2, 3):
            oldest.touches.mark(blocks[300 * (era - 1) : 300 * era], era=era)
        rule = KeepRule(era=3, not_before=0, pinned=frozenset(), max_bytes=450 * WIDE_BYTES)
        retirement = Retirement(oldest, (), rule)
        kept = np.concatenate([keys for parts in retirement.pieces() for keys, _ in parts])
        ages = oldest.touches.ages(oldest.index.find(np.ascontiguousarray(kept)), era=3)
    assert np.count_nonzero(ages == 0) >= 280
    assert 100 <= np.count_nonzero(ages == 1) <= 170
    assert not np.count_nonzero(ages == 2)


def test_a_lower_limit_is_kept_from_the_next_opening_on(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path, CacheSettings(max_bytes=32 * MEBIBYTE, generations=4, sample_rate=0)) as cache:
        for step in range(40):
            put_wide(cache, range(1000 * step, 1000 * step + 1000))
        newest = range(39_000, 39_200)
        assert cache.stats().file_bytes > 20 * MEBIBYTE
        assert held_wide(cache, newest).all()
    with VectorCache.open(tmp_path, SMALL) as cache:
        while cache.stats().file_bytes > 1.05 * SMALL.max_bytes:
            cache.flush()
        assert held_wide(cache, newest).all(), "what was asked for last is copied"
        for step in range(20):
            put_wide(cache, range(1000 * step, 1000 * step + 1000))
        assert cache.stats().file_bytes <= SMALL.max_bytes
