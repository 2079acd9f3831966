"""The local cache as a user sees it: put, get, delete, reopen, refuse."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from embedder_cache import (
    CacheBackpressure,
    CacheClosed,
    CacheDamaged,
    CacheLocked,
    CacheReadOnly,
    CacheRequestError,
    CacheSettings,
    Durability,
    SpaceKey,
    VectorCache,
    space_key,
)
from embedder_client.content_hash import hash_text, hash_texts

DIM = 24
SPACE = space_key(b"secret", bytes(32), DIM)


def make_batch(count: int, *, start: int = 0, dim: int = DIM) -> tuple[bytes, np.ndarray]:
    """Hashes of numbered texts, and a random vector for each."""
    hashes = hash_texts(f"text {number}" for number in range(start, start + count))
    vectors = np.random.default_rng(start).standard_normal((count, dim)).astype(np.float16)
    return hashes, vectors


def test_vectors_come_back_in_order_and_misses_are_zero_rows(tmp_path: Path) -> None:
    hashes, vectors = make_batch(5)
    with VectorCache.open(tmp_path / "cache") as cache:
        cache.put_many(SPACE, hashes, vectors).result()
        lookup = cache.get_many(SPACE, hashes[64:] + hash_text("unknown") + hashes[:64])
    assert lookup.found.tolist() == [True] * 3 + [False] + [True] * 2
    assert lookup.vectors.dtype == np.float16
    assert np.array_equal(lookup.vectors, np.concatenate([vectors[2:], np.zeros((1, DIM)), vectors[:2]]))


def test_acknowledged_vectors_survive_reopening(tmp_path: Path) -> None:
    hashes, vectors = make_batch(500)
    for durability in Durability:
        settings = CacheSettings(durability=durability)
        with VectorCache.open(tmp_path / durability, settings) as cache:
            cache.put_many(SPACE, hashes, vectors).result()
        with VectorCache.open(tmp_path / durability, settings) as cache:
            assert np.array_equal(cache.get_many(SPACE, hashes).vectors, vectors)


def test_float32_vectors_are_kept_as_float16(tmp_path: Path) -> None:
    hashes, vectors = make_batch(3)
    with VectorCache.open(tmp_path) as cache:
        cache.put_many(SPACE, hashes, vectors.astype(np.float32) + np.float32(1e-7)).result()
        assert np.array_equal(cache.get_many(SPACE, hashes).vectors, vectors)


def test_first_writer_wins_also_within_one_batch(tmp_path: Path) -> None:
    hashes, vectors = make_batch(2)
    with VectorCache.open(tmp_path) as cache:
        cache.put_many(SPACE, hashes[:32] + hashes[:32], vectors).result()
        cache.put_many(SPACE, hashes[:32], vectors[1:]).result()
        assert np.array_equal(cache.get_many(SPACE, hashes[:32]).vectors, vectors[:1])
        assert (cache.stats().written, cache.stats().already_held) == (1, 2)


def test_spaces_and_tenants_never_meet(tmp_path: Path) -> None:
    hashes, vectors = make_batch(4)
    other_tenant = space_key(b"another secret", bytes(32), DIM)
    other_space = space_key(b"secret", b"\1" * 32, DIM)
    with VectorCache.open(tmp_path) as cache:
        cache.put_many(SPACE, hashes, vectors).result()
        assert not cache.get_many(other_tenant, hashes).found.any()
        assert not cache.get_many(other_space, hashes).found.any()


def test_spaces_of_different_dims_share_a_store(tmp_path: Path) -> None:
    spaces = {dim: space_key(b"secret", dim.to_bytes(32, "little"), dim) for dim in (1, 7, 32, 33, 768)}
    batches = {dim: make_batch(40, dim=dim) for dim in spaces}
    with VectorCache.open(tmp_path) as cache:
        pending = [cache.put_many(spaces[dim], *batch) for dim, batch in batches.items()]
        for future in pending:
            future.result()
        for dim, (hashes, vectors) in batches.items():
            assert np.array_equal(cache.get_many(spaces[dim], hashes).vectors, vectors)


def test_a_space_asked_for_with_another_dim_misses(tmp_path: Path) -> None:
    hashes, vectors = make_batch(4)
    with VectorCache.open(tmp_path) as cache:
        cache.put_many(SPACE, hashes, vectors).result()
        assert not cache.get_many(SpaceKey(SPACE.prefix, DIM + 40), hashes).found.any()


def test_deleted_contents_are_misses_and_their_bytes_are_gone(tmp_path: Path) -> None:
    hashes, vectors = make_batch(3)
    with VectorCache.open(tmp_path) as cache:
        cache.put_many(SPACE, hashes, vectors).result()
        assert cache.delete_many(SPACE, hashes[:32] + hash_text("unknown")) == 1
        assert cache.get_many(SPACE, hashes).found.tolist() == [False, True, True]
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("records"))
    assert vectors[0].tobytes() not in stored
    assert vectors[1].tobytes() in stored


def test_an_empty_batch_is_answered(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path) as cache:
        assert cache.get_many(SPACE, b"").vectors.shape == (0, DIM)
        assert cache.put_many(SPACE, b"", np.empty((0, DIM), np.float16)).result() is None
        assert cache.delete_many(SPACE, b"") == 0


@pytest.mark.parametrize(
    ("hashes", "vectors", "message"),
    [
        (bytes(31), np.zeros((1, DIM), np.float16), "31 bytes of packed hashes"),
        (bytes(32), np.zeros((2, DIM), np.float16), r"shape \(2, 24\)"),
        (bytes(32), np.zeros((1, DIM + 1), np.float16), r"shape \(1, 25\)"),
        (bytes(32), np.full((1, DIM), np.nan, np.float16), "not finite"),
        (bytes(32), np.full((1, DIM), 1e6, np.float32), "not finite"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path: Path, hashes: bytes, vectors: np.ndarray, message: str) -> None:
    with VectorCache.open(tmp_path) as cache, pytest.raises(CacheRequestError, match=message):
        cache.put_many(SPACE, hashes, vectors)


def test_a_full_queue_refuses_and_says_so(tmp_path: Path) -> None:
    hashes, vectors = make_batch(100)
    with VectorCache.open(tmp_path, CacheSettings(max_queue_bytes=8000)) as cache:
        assert cache._writer
        with cache._writer._changed:  # the writer can't take anything from the queue meanwhile
            first = cache.put_many(SPACE, hashes, vectors)
            with pytest.raises(CacheBackpressure, match="max_queue_bytes=8000"):
                cache.put_many(SPACE, *make_batch(1, start=200))
        first.result()
        assert cache.stats().refused == 1


def test_readers_follow_the_writer(tmp_path: Path) -> None:
    hashes, vectors = make_batch(3000)
    script = (
        "import sys, numpy as np\n"
        "from embedder_cache import VectorCache, space_key\n"
        f"space = space_key(b'secret', bytes(32), {DIM})\n"
        "hashes = bytes.fromhex(sys.stdin.readline())\n"
        "with VectorCache.open(sys.argv[1], read_only=True) as cache:\n"
        "    print(int(cache.get_many(space, hashes).found.sum()), flush=True)\n"
        "    sys.stdin.readline()\n"
        "    print(int(cache.get_many(space, hashes).found.sum()), flush=True)\n"
    )
    with VectorCache.open(tmp_path, CacheSettings(max_bytes=64 << 20)) as cache:
        cache.put_many(SPACE, hashes[:32], vectors[:1]).result()
        with subprocess.Popen(
            [sys.executable, "-c", script, os.fspath(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as reader:
            assert reader.stdin is not None
            assert reader.stdout is not None
            reader.stdin.write(hashes.hex() + "\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "1\n"
            cache.put_many(SPACE, hashes, vectors).result()
            reader.stdin.write("\n")
            reader.stdin.flush()
            assert reader.stdout.readline() == "3000\n"


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path), pytest.raises(CacheLocked):
        VectorCache.open(tmp_path)


def test_a_reader_may_not_write_and_needs_a_cache(tmp_path: Path) -> None:
    hashes, vectors = make_batch(1)
    with pytest.raises(CacheDamaged):
        VectorCache.open(tmp_path / "nothing", read_only=True)
    VectorCache.open(tmp_path / "cache").close()
    with VectorCache.open(tmp_path / "cache", read_only=True) as reader:
        assert not reader.get_many(SPACE, hashes).found.any()
        with pytest.raises(CacheReadOnly):
            reader.put_many(SPACE, hashes, vectors)
        with pytest.raises(CacheReadOnly):
            reader.delete_many(SPACE, hashes)


def test_a_closed_cache_refuses_and_closes_twice(tmp_path: Path) -> None:
    hashes, vectors = make_batch(1)
    cache = VectorCache.open(tmp_path)
    last = cache.put_many(SPACE, hashes, vectors)
    cache.close()
    cache.close()
    assert last.result() is None
    with pytest.raises(CacheClosed):
        cache.get_many(SPACE, hashes)
    with pytest.raises(CacheClosed):
        cache.put_many(SPACE, hashes, vectors)


def test_only_the_owner_reads_the_folder(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path / "cache") as cache:
        cache.put_many(SPACE, *make_batch(1)).result()
    for path in [tmp_path / "cache", *(tmp_path / "cache").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_counts_and_sizes_are_reported(tmp_path: Path) -> None:
    hashes, vectors = make_batch(10)
    with VectorCache.open(tmp_path, CacheSettings(max_bytes=32 << 20)) as cache:
        cache.put_many(SPACE, hashes, vectors).result()
        cache.get_many(SPACE, hashes + hash_text("unknown"))
        stats = cache.stats()
        measured = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert (stats.entries, stats.written, stats.hits, stats.misses) == (10, 10, 10, 1)
    assert stats.file_bytes == measured
    assert stats.max_bytes == 32 << 20


def test_importing_the_cache_pulls_no_torch_protobuf_or_grpc() -> None:
    script = "import sys, embedder_cache; print([n for n in ('torch', 'google.protobuf', 'grpc') if n in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_a_space_has_one_dim(tmp_path: Path) -> None:
    hashes, vectors = make_batch(1, dim=30)
    with VectorCache.open(tmp_path) as cache:
        cache.put_many(SPACE, *make_batch(1)).result()
    with VectorCache.open(tmp_path) as cache:
        with pytest.raises(CacheRequestError, match="dim=30; this space has 24"):
            cache.put_many(SpaceKey(SPACE.prefix, 30), hashes, vectors)
        with pytest.raises(CacheRequestError, match="dim=30"):
            cache.register_space(SpaceKey(SPACE.prefix, 30))
