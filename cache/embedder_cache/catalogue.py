"""The catalogue: which generations and which spaces the store holds, in a small LMDB environment of its own."""

from __future__ import annotations

import json
import os
import struct
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import lmdb

from embedder_cache.errors import CacheDamaged
from embedder_cache.key import PREFIX_BYTES, SpaceKey
from embedder_cache.precheck import check_lmdb_file

_GENERATION = b"generation\0"
_SPACE = b"space\0"
_MAP_BYTES = 64 << 20
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


class Catalogue:
    """Rows of generations and spaces; one process writes, every process reads."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Open the catalogue, or create it when it may be written.

        Raises:
            CacheDamaged: the file is missing, cut or refused by LMDB.
        """
        if writable:
            path.mkdir(mode=0o700, exist_ok=True)
        file = path / "data.mdb"
        if file.exists() or not writable:
            check_lmdb_file(file)
        try:
            self._environment = lmdb.open(
                os.fspath(path),
                map_size=_MAP_BYTES,
                readonly=not writable,
                create=writable,
                mode=0o600,
                max_readers=1024,
            )
            self._environment.reader_check()
        except lmdb.Error as error:
            raise CacheDamaged(f"the catalogue can't be opened: {error}") from error

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

    def generations(self) -> list[int]:
        """List the sequence numbers of the live generations, the newest first."""
        numbers = [_SEQUENCE.unpack(key)[0] for key in self._rows(_GENERATION)]
        return sorted(numbers, reverse=True)

    def add_generation(self, sequence: int) -> None:
        """Make a generation live; its files exist."""
        row = json.dumps({"created": int(time.time())}).encode()
        with self._environment.begin(write=True) as transaction:
            transaction.put(_GENERATION + _SEQUENCE.pack(sequence), row)

    def remove_generation(self, sequence: int) -> None:
        """Take a generation out of service; its files may be unlinked afterwards."""
        with self._environment.begin(write=True) as transaction:
            transaction.delete(_GENERATION + _SEQUENCE.pack(sequence))

    def spaces(self) -> dict[bytes, SpaceRow]:
        """List the spaces by prefix (16 bytes)."""
        return {prefix: SpaceRow(**json.loads(row)) for prefix, row in self._rows(_SPACE).items()}

    def set_space(self, space: SpaceKey, row: SpaceRow) -> None:
        """Write a space's row."""
        assert len(space.prefix) == PREFIX_BYTES
        with self._environment.begin(write=True) as transaction:
            transaction.put(_SPACE + space.prefix, json.dumps(asdict(row)).encode())

    def _rows(self, kind: bytes) -> dict[bytes, bytes]:
        rows: dict[bytes, bytes] = {}
        with self._environment.begin() as transaction, transaction.cursor() as cursor:
            if cursor.set_range(kind):
                for key, value in cursor:
                    if not key.startswith(kind):
                        break
                    rows[key[len(kind) :]] = value
        return rows
