"""Record files: what another machine computed comes into the cache whole, under the service's own key, or is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from embedder.cli.cache import app
from embedder_cache import CacheRequestError, VectorCache, space_key
from embedder_cache.record_file import RecordSpace, import_record_file, read_record_space, write_record_file

DIM, ROWS = 16, 300
DIGEST = bytes(range(32))
SPACE = RecordSpace(digest=DIGEST.hex(), dim=DIM, model="a model")
SECRET = b"s" * 32


def contents(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    vectors = random.standard_normal((ROWS, DIM)).astype(np.float32)
    return random.integers(0, 256, (ROWS, 32), np.uint8), (vectors / np.linalg.norm(vectors, axis=1)[:, None]).astype(
        np.float16
    )


def test_a_record_file_comes_under_the_importers_own_key(tmp_path: Path) -> None:
    hashes, vectors = contents()
    file = tmp_path / "part.parquet"
    write_record_file(file, SPACE, hashes, vectors, ids=[str(row) for row in range(ROWS)])
    assert read_record_space(file) == SPACE
    assert file.stat().st_mode & 0o077 == 0
    (tmp_path / "domain.key").write_bytes(SECRET)
    ended = CliRunner().invoke(app, ["import", str(file), "--cache-dir", str(tmp_path / "cache")])
    assert ended.exit_code == 0, ended.output
    with VectorCache.open(tmp_path / "cache", read_only=True) as cache:
        found = cache.get_many(space_key(SECRET, DIGEST, DIM), hashes.tobytes())
        assert found.found.all()
        assert np.array_equal(found.vectors, vectors)
        assert not cache.get_many(space_key(b"another", DIGEST, DIM), hashes.tobytes()).found.any()


def test_a_vector_that_is_held_stays(tmp_path: Path) -> None:
    hashes, vectors = contents()
    for name, given in (("first", vectors), ("second", -vectors)):
        write_record_file(tmp_path / name, SPACE, hashes, given)
    with VectorCache.open(tmp_path / "cache") as cache:
        for name in ("first", "second"):
            assert import_record_file(cache, tmp_path / name, domain_secret=SECRET) == ROWS
        assert np.array_equal(cache.get_many(space_key(SECRET, DIGEST, DIM), hashes.tobytes()).vectors, vectors)


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    hashes, vectors = contents()
    file = tmp_path / "part.parquet"
    write_record_file(file, SPACE, hashes, vectors)
    data = bytearray(file.read_bytes())
    data[len(data) // 3] ^= 4
    file.write_bytes(data)
    with VectorCache.open(tmp_path / "cache") as cache, pytest.raises(CacheRequestError, match="damaged"):
        import_record_file(cache, file, domain_secret=SECRET)


def test_what_no_encoder_made_is_refused(tmp_path: Path) -> None:
    hashes, vectors = contents()
    vectors[7] = 0
    write_record_file(tmp_path / "zeros", SPACE, hashes, vectors)
    write_record_file(
        tmp_path / "wholes", RecordSpace(digest=DIGEST.hex(), dim=DIM, has_wholes=True), hashes, contents()[1]
    )
    table = pq.read_table(tmp_path / "wholes")
    pq.write_table(table.replace_schema_metadata({b"embedder_records": b"{}"}), tmp_path / "nameless")
    with VectorCache.open(tmp_path / "cache") as cache:
        for name, words in (("zeros", "not of length 1"), ("wholes", "posts or videos"), ("nameless", "which space")):
            with pytest.raises(CacheRequestError, match=words):
                import_record_file(cache, tmp_path / name, domain_secret=SECRET)


def test_a_space_of_another_dim_is_refused(tmp_path: Path) -> None:
    hashes, vectors = contents()
    write_record_file(tmp_path / "part", SPACE, hashes, vectors)
    with VectorCache.open(tmp_path / "cache") as cache:
        cache.register_space(space_key(SECRET, DIGEST, DIM + 1))
        with pytest.raises(CacheRequestError, match="this space has 17"):
            import_record_file(cache, tmp_path / "part", domain_secret=SECRET)


def test_a_missing_key_is_said_in_words(tmp_path: Path) -> None:
    hashes, vectors = contents()
    write_record_file(tmp_path / "part", SPACE, hashes, vectors)
    ended = CliRunner().invoke(app, ["import", str(tmp_path / "part"), "--cache-dir", str(tmp_path / "cache")])
    assert ended.exit_code == 2
