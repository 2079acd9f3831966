"""Ids of an index's items: row to id, and id to row by a sorted hash."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import QueryInvalid
from embedder_heads.index.arrays import load_array
from embedder_heads.index.strings import StringColumn, save_strings

MAX_ID_BYTES = 512


class IdTable:
    """The ids of n items; a million take no memory of the process, since everything is mapped."""

    def __init__(self, ids: StringColumn, hashes: npt.NDArray[np.uint64], rows: npt.NDArray[np.int64]) -> None:
        """Hold ids.

        Args:
            ids: row to id.
            hashes: (n,) the ids' hashes, rising.
            rows: (n,) the row of each hash.
        """
        self._ids = ids
        self._hashes = hashes
        self._rows = rows

    @classmethod
    def load(cls, folder: Path, *, count: int, stem: str = "ids") -> IdTable:
        """Map what `save_ids` wrote; raises IndexInvalid."""
        hashes = load_array(folder / f"{stem}.hashes.npy", dtype=np.uint64, shape=(count,))
        rows = load_array(folder / f"{stem}.rows.npy", dtype=np.int64, shape=(count,))
        return cls(StringColumn.load(folder, stem, count=count), hashes, rows)

    def __len__(self) -> int:
        return len(self._ids)

    def id_of(self, row: int) -> str:
        """Return the id of a row."""
        return self._ids[row]

    def row_of(self, item_id: str) -> int:
        """Return the row of an id, or -1."""
        wanted = _hash(item_id)
        place = int(np.searchsorted(self._hashes, wanted))
        while place < len(self._hashes) and self._hashes[place] == wanted:
            row = int(self._rows[place])
            if self._ids[row] == item_id:
                return row
            place += 1
        return -1


def save_ids(folder: Path, ids: Sequence[str], *, stem: str = "ids") -> None:
    """Write the ids' files.

    Raises:
        QueryInvalid: an id is empty, too long, or given twice.
    """
    for item_id in ids:
        if not 0 < len(item_id.encode()) <= MAX_ID_BYTES:
            raise QueryInvalid(
                f"id {item_id[:40]!r} has {len(item_id.encode())} bytes; allowed are 1 to {MAX_ID_BYTES}"
            )
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(item_id for item_id in ids if item_id in seen or seen.add(item_id))  # type: ignore[func-returns-value]
        raise QueryInvalid(f"id {twice!r} is given twice; an item is indexed once")
    hashes = np.fromiter((_hash(item_id) for item_id in ids), np.uint64, len(ids))
    order = np.argsort(hashes, kind="stable")
    np.save(folder / f"{stem}.hashes.npy", hashes[order])
    np.save(folder / f"{stem}.rows.npy", order.astype(np.int64))
    save_strings(folder, stem, ids)


def _hash(item_id: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(item_id.encode(), digest_size=8).digest(), "little"))
