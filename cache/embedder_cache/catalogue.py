"""The catalogue: which generations and spaces the store holds, and what other processes ask of its writer."""

from __future__ import annotations

import json
import logging
import struct
import uuid
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedder_cache.environment import open_environment
from embedder_cache.generation import GenerationRow
from embedder_cache.key import SpaceKey
from embedder_cache.settings import CacheSettings, Durability

_log = logging.getLogger(__name__)

_GENERATION = b"generation\0"
_SPACE = b"space\0"
_REQUEST = b"request\0"
_GUIDE = b"guide\0"
_SETTINGS = b"settings\0"
_LAST_SEQUENCE = b"last-sequence\0"
_MAP_BYTES = 1 << 30
_MAX_READERS = 512
_SEQUENCE = struct.Struct(">Q")


@dataclass(frozen=True)
class SpaceRow:
    """What the catalogue knows of one space of one tenant.

    Attributes:
        dim: components of each vector.
        name: the space's name, for people; may be empty.
        domain: hex of `domain_id`, so that a tenant can be erased; may be empty.
        pinned: whether its vectors outlive their generation.
    """

    dim: int
    name: str = ""
    domain: str = ""
    pinned: bool = False


@dataclass(frozen=True)
class Request:
    """A change that another process asks the writer for.

    Attributes:
        kind: `erase-hashes`, `erase-space`, `erase-domain` or `compact`.
        prefix: hex of the space's prefix, where one is meant.
        domain: hex of the tenant's `domain_id`, where one is meant.
        hashes: hex of packed content hashes, where contents are meant.
    """

    kind: str
    prefix: str = ""
    domain: str = ""
    hashes: str = ""


class Catalogue:
    """Rows of generations, spaces and requests in a small LMDB environment; every process reads, any may request."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Open the catalogue, or create it when it may be written.

        Raises:
            CacheDamaged, CacheLocked, CacheError: as `open_environment`.
        """
        self._environment = open_environment(path, writable=writable, map_bytes=_MAP_BYTES, max_readers=_MAX_READERS)

    def close(self) -> None:
        """Close the environment."""
        self._environment.close()

    @property
    def version(self) -> int:
        """A number that grows with every change, by whichever process."""
        version: int = self._environment.info()["last_txnid"]
        return version

    def reader_check(self) -> int:
        """Free the slots of readers that died; returns how many."""
        freed: int = self._environment.reader_check()
        return freed

    def generations(self) -> list[GenerationRow]:
        """List the live generations, the newest first."""
        rows = [GenerationRow(sequence=_SEQUENCE.unpack(key)[0], **row) for key, row in self._rows(_GENERATION).items()]
        return sorted(rows, key=lambda row: row.order, reverse=True)

    def note_settings(self, settings: CacheSettings) -> None:
        """Write down how the writer was told to behave, for the tools that open the cache after it."""
        row = _seal(asdict(settings))
        with self._environment.begin(write=True) as transaction:
            if transaction.get(_SETTINGS) != row:
                transaction.put(_SETTINGS, row)

    def settings(self) -> CacheSettings | None:
        """Read how the last writer was told to behave; None when that is not known."""
        with self._environment.begin() as transaction:
            row = _open_seal(transaction.get(_SETTINGS))
        if row is None:
            return None
        return CacheSettings(**{**row, "durability": Durability(row["durability"])})

    def next_sequence(self, *, above: int = 0) -> int:
        """Give a generation's number out, never one that was given before, and one above `above`."""
        with self._environment.begin(write=True) as transaction:
            last = transaction.get(_LAST_SEQUENCE)
            number: int = 1 + max(above, _SEQUENCE.unpack(last)[0] if last else 0)
            transaction.put(_LAST_SEQUENCE, _SEQUENCE.pack(number))
        return number

    def replace_generations(self, *, add: GenerationRow | None = None, remove: GenerationRow | None = None) -> None:
        """Make a generation live whose files exist, take another one out of service, or both at once."""
        with self._environment.begin(write=True) as transaction:
            if remove:
                transaction.delete(_GENERATION + _SEQUENCE.pack(remove.sequence))
            if add:
                row = _seal({"order": add.order, "created": add.created})
                transaction.put(_GENERATION + _SEQUENCE.pack(add.sequence), row)

    def announce_guide(self, identity: tuple[int, int], *, filled: bool) -> None:
        """Tell all processes which file the guide is now, and whether all keys were entered into it."""
        with self._environment.begin(write=True) as transaction:
            transaction.put(_GUIDE, _seal({"identity": identity, "filled": filled}))

    def is_guide_filled(self, identity: tuple[int, int]) -> bool:
        """Say whether all keys were entered into a guide; a crash may have ended its filling."""
        with self._environment.begin() as transaction:
            row = _open_seal(transaction.get(_GUIDE))
        return row == {"identity": list(identity), "filled": True}

    def spaces(self) -> dict[bytes, SpaceRow]:
        """List the spaces by prefix (16 bytes)."""
        return {prefix: SpaceRow(**row) for prefix, row in self._rows(_SPACE).items()}

    def space(self, prefix: bytes) -> SpaceRow | None:
        """Read one space's row; None when it is not known."""
        with self._environment.begin() as transaction:
            row = _open_seal(transaction.get(_SPACE + prefix))
        return SpaceRow(**row) if row else None

    def set_space(self, space: SpaceKey, row: SpaceRow) -> None:
        """Write a space's row."""
        with self._environment.begin(write=True) as transaction:
            transaction.put(_SPACE + space.prefix, _seal(asdict(row)))

    def remove_space(self, prefix: bytes) -> None:
        """Forget a space; its vectors are erased."""
        with self._environment.begin(write=True) as transaction:
            transaction.delete(_SPACE + prefix)

    def add_request(self, request: Request) -> bytes:
        """Ask the writer for a change; returns the request's number, 16 bytes."""
        number = uuid.uuid4().bytes
        with self._environment.begin(write=True) as transaction:
            transaction.put(_REQUEST + number, _seal(asdict(request)))
        return number

    def requests(self) -> dict[bytes, Request]:
        """List what is asked for and not done yet, by number."""
        requests = {}
        for number, row in self._rows(_REQUEST).items():
            try:
                requests[number] = Request(**row)
            except TypeError:
                _log.error("a request of another version's tool is left undone")
        return requests

    def finish_request(self, number: bytes) -> None:
        """Take a request out that is done; whoever asked sees it go."""
        with self._environment.begin(write=True) as transaction:
            transaction.delete(_REQUEST + number)

    def _rows(self, kind: bytes) -> dict[bytes, dict[str, Any]]:
        rows: dict[bytes, dict[str, Any]] = {}
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(kind):
                for key, value in cursor:
                    if not bytes(key).startswith(kind):
                        break
                    row = _open_seal(value)
                    if row is not None:
                        rows[bytes(key)[len(kind) :]] = row
        return rows


def _seal(row: dict[str, Any]) -> bytes:
    text = json.dumps(row).encode()
    return zlib.crc32(text).to_bytes(4, "little") + text


def _open_seal(value: bytes | memoryview | None) -> dict[str, Any] | None:
    """Read a row; None for one that is missing, or damaged, which counts as missing."""
    if value is None:
        return None
    stored = bytes(value)
    if zlib.crc32(stored[4:]).to_bytes(4, "little") != stored[:4]:
        _log.error("a row of the catalogue did not check out and is treated as missing")
        return None
    row: dict[str, Any] = json.loads(stored[4:])
    return row
