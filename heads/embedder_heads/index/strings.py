"""A column of strings on disk: memory-mapped, read one by one, shared by processes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from embedder_heads.errors import IndexInvalid
from embedder_heads.index.arrays import load_array


class StringColumn:
    """n strings, one after the other in UTF-8, and where each ends."""

    def __init__(self, ends: npt.NDArray[np.uint64], payload: npt.NDArray[np.uint8]) -> None:
        self._ends = ends
        self._payload = payload

    @classmethod
    def load(cls, folder: Path, name: str, *, count: int) -> StringColumn:
        """Map a column that `save_strings` wrote; raises IndexInvalid when it does not hold `count` strings."""
        ends: npt.NDArray[np.uint64] = load_array(folder / f"{name}.ends.npy", dtype=np.uint64, shape=(count,))
        size = int(ends[-1]) if count else 0
        payload: npt.NDArray[np.uint8] = load_array(folder / f"{name}.utf8.npy", dtype=np.uint8, shape=(size,))
        if count and (np.diff(ends.view(np.int64)) < 0).any():
            raise IndexInvalid(f"{name}.ends.npy does not rise")
        return cls(ends, payload)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> str:
        if not 0 <= row < len(self._ends):
            raise IndexError(row)
        start = int(self._ends[row - 1]) if row else 0
        return self._payload[start : int(self._ends[row])].tobytes().decode("utf-8", "replace")


def save_strings(folder: Path, name: str, strings: Iterable[str]) -> None:
    """Write a column's two files."""
    encoded = [string.encode() for string in strings]
    ends = np.cumsum([len(entry) for entry in encoded], dtype=np.uint64)
    np.save(folder / f"{name}.ends.npy", ends)
    np.save(folder / f"{name}.utf8.npy", np.frombuffer(b"".join(encoded), np.uint8))
