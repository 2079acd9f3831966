"""The domain's secret and the cache's name: made once, kept, and given from outside where replicas share a cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedder.errors import ConfigurationError
from embedder.server.cache_identity import load_cache_id
from embedder.server.secrets import load_domain_secret


def test_secret_is_made_once_and_kept(tmp_path: Path) -> None:
    secret = load_domain_secret(tmp_path)
    assert len(secret) == 32
    assert load_domain_secret(tmp_path) == secret
    assert (tmp_path / "domain.key").stat().st_mode & 0o777 == 0o600


def test_given_secret_is_read_and_none_is_made(tmp_path: Path) -> None:
    given = tmp_path / "given.key"
    given.write_bytes(bytes(range(32)))
    assert load_domain_secret(tmp_path, given) == bytes(range(32))
    assert not (tmp_path / "domain.key").exists()


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"short", "5 bytes, not 32")])
def test_given_secret_that_is_none_is_told(tmp_path: Path, content: bytes | None, words: str) -> None:
    given = tmp_path / "given.key"
    if content is not None:
        given.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words):
        load_domain_secret(tmp_path, given)


def test_cache_has_one_name_for_good(tmp_path: Path) -> None:
    name = load_cache_id(tmp_path)
    assert len(name) == 32
    assert load_cache_id(tmp_path) == name
    (other := tmp_path / "other").mkdir()
    assert load_cache_id(other) != name
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["cache.id"]
