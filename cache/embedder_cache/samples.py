"""The access sample: which contents were asked for and when, for a fixed part of all keys, kept in small files."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import numpy.typing as npt

SAMPLES_FOLDER = "samples"
ACCESS = np.dtype([("content", "<u8"), ("time", "<u4"), ("record_bytes", "<u4")])

_FLUSH_AT = 4096  # accesses held in memory before they are written
_FLUSH_INTERVAL_S = 60.0
_FILE_BYTES = 1 << 20
_LOTS = 1 << 32


class AccessSampler:
    """Writes the accesses of one process down; thread-safe.

    A key is in the sample or not for ever, by bits of its content hash, so that the distances between its accesses are
    true ones: scaled by the rate they give the hit rate of any size.
    Source: Waldspurger et al. 2015, "Efficient MRC construction with SHARDS".
    """

    def __init__(self, folder: Path, *, rate: float, max_bytes: int) -> None:
        """Prepare; nothing is written before the first few thousand accesses, or a minute, have passed.

        Args:
            folder: the cache's folder.
            rate: the part of all keys that is in the sample, 0 to 1.
            max_bytes: how many bytes of samples all processes together keep; the oldest files go.
        """
        self._folder = folder / SAMPLES_FOLDER
        self._limit = np.uint32(min(_LOTS - 1, round(rate * _LOTS)))
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._held: list[npt.NDArray[np.void]] = []
        self._held_count = 0
        self._file: Path | None = None
        self._next_flush = time.monotonic() + _FLUSH_INTERVAL_S

    def note(self, keys: npt.NDArray[np.uint8], *, now: int, record_bytes: int) -> None:
        """Note the accesses to keys (n, 48) uint8 at a second since 1970, found or not."""
        chosen = keys.view("<u4")[:, -1] < self._limit
        if not chosen.any():
            return
        words = keys.view("<u8")[chosen]
        accesses = np.empty(len(words), ACCESS)
        accesses["content"] = words[:, 0] ^ words[:, 3]
        accesses["time"] = now
        accesses["record_bytes"] = record_bytes
        with self._lock:
            self._held.append(accesses)
            self._held_count += len(accesses)
            due = self._held_count >= _FLUSH_AT or time.monotonic() >= self._next_flush
        if due:
            self.flush()

    def flush(self) -> None:
        """Write what is held; a disk that is full costs the sample, nothing else."""
        with self._lock:
            held, self._held, self._held_count = self._held, [], 0
            self._next_flush = time.monotonic() + _FLUSH_INTERVAL_S
            if held:
                try:
                    self._append(np.concatenate(held).tobytes())
                except OSError:
                    self._file = None

    def _append(self, packed: bytes) -> None:
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._file is None or self._file.stat().st_size >= _FILE_BYTES:
            self._trim()
            self._file = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        file = os.open(self._file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, packed)
        finally:
            os.close(file)

    def _trim(self) -> None:
        """Remove the oldest files so far that one more fits."""
        files = sorted(self._folder.iterdir())
        total = sum(file.stat().st_size for file in files) + _FILE_BYTES
        for file in files:
            if total <= self._max_bytes:
                return
            total -= file.stat().st_size
            file.unlink(missing_ok=True)


def read_samples(folder: Path) -> npt.NDArray[np.void]:
    """Read all accesses of a cache's sample in the order of their time: (n,) of content, time, record_bytes."""
    samples = folder / SAMPLES_FOLDER
    parts = []
    for file in sorted(samples.iterdir()) if samples.exists() else []:
        packed = file.read_bytes()
        parts.append(np.frombuffer(packed[: len(packed) // ACCESS.itemsize * ACCESS.itemsize], ACCESS))
    if not parts:
        return np.empty(0, ACCESS)
    accesses = np.concatenate(parts)
    return accesses[np.argsort(accesses["time"], kind="stable")]
