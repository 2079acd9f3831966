"""Flips single bits in a cache's files, and checks that no wrong vector is ever served.

    python -m tests.faults.bit_flips --flips 1000 [--json]

A cache is filled and closed. Each round flips one random bit of one of its files, reads everything back in a process of
its own (with the guide, then through the indexes alone), and flips the bit back. A flip in a live record must be met as
exactly one damaged record. A flip elsewhere may cost misses, or the reading process its life where LMDB trusts its own
pages, and never a wrong vector.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import struct
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from embedder_cache import CacheError, CacheSettings, VectorCache
from embedder_cache.record import BLOCK_BYTES, RecordLayout
from tests.faults.numbered import DIM, SPACE, numbered_hashes, numbered_vectors

_ENTRIES = 2_000
_ANSWER = struct.Struct("<qqqq")
_SETTINGS = CacheSettings(max_bytes=16 << 20, generations=2, sample_rate=0)
_RECORDS_END = BLOCK_BYTES * (1 + _ENTRIES * RecordLayout(DIM).blocks)
_READER_SECONDS = 20


@dataclass(frozen=True)
class Reading:
    """What a reading process met: counts, or that it died."""

    found: int = 0
    wrong: int = 0
    damaged: int = 0
    refused: int = 0
    died: bool = False


def fill(folder: Path) -> None:
    """Make the cache that bits are flipped in, one generation with a full guide."""
    numbers = range(_ENTRIES)
    with VectorCache.open(folder, _SETTINGS) as cache:
        cache.put_many(SPACE, numbered_hashes(numbers), numbered_vectors(numbers)).result()
        cache.flush()


def read_everything(folder: Path) -> Reading:
    """Read all entries in a process of its own, with the guide and without."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        os.close(2)  # what the cache logs of the damage is expected
        try:
            os.write(send, _ANSWER.pack(*_read(folder)))
            os._exit(0)
        finally:
            os._exit(1)
    os.close(send)
    packed = b""
    while part := os.read(receive, _ANSWER.size):
        packed += part
    os.close(receive)
    os.waitpid(child, 0)
    if len(packed) < _ANSWER.size:
        return Reading(died=True)
    return Reading(*_ANSWER.unpack(packed))


def _read(folder: Path) -> tuple[int, int, int, int]:
    """Count found, wrong and damaged entries, and whether the cache refused to open."""
    import signal

    signal.alarm(_READER_SECONDS)  # a reader that never ends counts as dead
    numbers = np.arange(_ENTRIES)
    expected = numbered_vectors(numbers)
    try:
        with VectorCache.open(folder, _SETTINGS, read_only=True) as cache:
            found = wrong = 0
            least_found = _ENTRIES
            for guided in (True, False):
                if not guided:
                    cache._generations.guide = None
                lookup = cache.get_many(SPACE, numbered_hashes(numbers))
                equal = (lookup.vectors == expected).all(axis=1)
                wrong += int((lookup.found & ~equal).sum())
                found = int(lookup.found.sum())
                least_found = min(least_found, found)
            return least_found, wrong, cache.stats().damaged, 0
    except CacheError:
        return 0, 0, 0, 1


def run(*, flips: int, folder: Path, seed: int) -> dict[str, int]:
    """Flip bits one after another; returns counts."""
    choice = random.Random(seed)
    fill(folder)
    clean = read_everything(folder)
    if clean != Reading(found=_ENTRIES):
        raise RuntimeError(f"the cache is not whole before the first flip: {clean}")
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size and path.name != "lock.mdb"]
    counts = dict.fromkeys(
        ("flips", "in_live_records", "detected", "wrong_vectors", "readers_died", "caches_refused"), 0
    )
    for _ in range(flips):
        path = choice.choice([*files, *(path for path in files if path.name == "records")])
        in_records = path.name == "records"
        limit = _RECORDS_END if in_records else path.stat().st_size
        bit = choice.randrange(8 * BLOCK_BYTES if in_records else 0, 8 * limit)
        _flip(path, bit)
        reading = read_everything(folder)
        _flip(path, bit)
        counts["flips"] += 1
        counts["in_live_records"] += in_records
        # Once through the guide, whose wrong guesses are not counted, and the index behind it; once through the index.
        counts["detected"] += in_records and reading.found == _ENTRIES - 1 and reading.damaged == 2
        counts["wrong_vectors"] += reading.wrong
        counts["readers_died"] += reading.died
        counts["caches_refused"] += reading.refused
    if read_everything(folder) != clean:
        raise RuntimeError("the cache is not whole after the last bit was flipped back")
    return counts


def _flip(path: Path, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))


def main() -> None:
    """Run from the command line; status 1 when a vector was wrong or a flip in a live record went unseen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bit-flips-"))
    try:
        counts = run(flips=options.flips, folder=folder, seed=options.seed)
    finally:
        shutil.rmtree(folder)
    counts["seed"] = options.seed
    sys.stdout.write(
        json.dumps(counts) + "\n" if options.json else "".join(f"{name:16} {count}\n" for name, count in counts.items())
    )
    sys.exit(1 if counts["wrong_vectors"] or counts["detected"] < counts["in_live_records"] else 0)


if __name__ == "__main__":
    main()
