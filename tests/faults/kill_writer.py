"""Kills a writing process again and again, and checks that nothing it acknowledged is lost or wrong.

    python -m tests.faults.kill_writer --kills 1000 [--json]

Each round starts a writer on the same cache. It checks what earlier writers acknowledged, then puts numbered entries and
tells each number once its commit is acknowledged, until it is killed with SIGKILL at a random moment. At the end
everything is checked.
A kill says nothing of a loss of power: the system's page cache survives it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
from pathlib import Path
from typing import NoReturn

from embedder_cache import CacheSettings, Durability, VectorCache
from tests.faults.numbered import SPACE, numbered_hashes, numbered_vectors

_RANGE = struct.Struct("<qq")
_CHECK = struct.Struct("<qqq")
_MAX_BATCH = 300
_SAMPLE = 2_000
_CHUNK = 1_024


def _settings(durability: Durability, *, kills: int) -> CacheSettings:
    """Many small generations, so that kills fall into rotations too, and room for everything, so that nothing is evicted."""
    return CacheSettings(max_bytes=max(64, kills) << 20, generations=64, durability=durability, max_copy_fraction=0)


def _check(cache: VectorCache, numbers: list[int]) -> tuple[int, int]:
    """Count lost and wrong vectors among acknowledged numbers."""
    lost = wrong = 0
    for start in range(0, len(numbers), _CHUNK):
        chosen = numbers[start : start + _CHUNK]
        lookup = cache.get_many(SPACE, numbered_hashes(chosen))
        lost += int((~lookup.found).sum())
        equal = (lookup.vectors == numbered_vectors(chosen)).all(axis=1)
        wrong += int((lookup.found & ~equal).sum())
    return lost, wrong


def _write_until_killed(path: Path, settings: CacheSettings, earlier: list[int], first: int, answers: int) -> NoReturn:
    """Check earlier numbers and tell the result, then put from `first` on and tell each range that was acknowledged."""
    cache = VectorCache.open(path, settings)
    lost, wrong = _check(cache, earlier)
    os.write(answers, _CHECK.pack(len(earlier), lost, wrong))
    choice = random.Random(first)
    number = first
    while True:
        count = choice.randint(1, _MAX_BATCH)
        numbers = range(number, number + count)
        cache.put_many(SPACE, numbered_hashes(numbers), numbered_vectors(numbers)).result()
        os.write(answers, _RANGE.pack(number, count))
        number += count


def _run_round(
    path: Path, settings: CacheSettings, earlier: list[int], first: int, delay_s: float
) -> tuple[int, int, list[int]]:
    """Let one writer work for `delay_s` after its check, kill it, and collect lost, wrong and acknowledged numbers."""
    receive, send = os.pipe()
    child = os.fork()
    if not child:
        os.close(receive)
        try:
            _write_until_killed(path, settings, earlier, first, send)
        finally:
            os._exit(1)
    os.close(send)
    packed = b""
    kill_at = float("inf")
    while True:
        left = kill_at - time.monotonic()
        if left <= 0:
            break
        ready, _, _ = select.select([receive], [], [], min(left, 1.0))
        if ready:
            part = os.read(receive, 65536)
            if not part:
                break
            packed += part
            if len(packed) >= _CHECK.size and kill_at == float("inf"):
                kill_at = time.monotonic() + delay_s
    os.kill(child, signal.SIGKILL)
    while part := os.read(receive, 65536):
        packed += part
    os.close(receive)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status) or len(packed) < _CHECK.size:
        raise RuntimeError(f"the writer ended by itself with status {status}")
    _, lost, wrong = _CHECK.unpack_from(packed)
    rest = packed[_CHECK.size :]
    ranges = _RANGE.iter_unpack(rest[: len(rest) // _RANGE.size * _RANGE.size])
    return lost, wrong, [number for start, count in ranges for number in range(start, start + count)]


def run(*, kills: int, durability: Durability, folder: Path, seed: int) -> dict[str, int]:
    """Kill a writer `kills` times; returns the counts of acknowledged, lost and wrong entries."""
    choice = random.Random(seed)
    settings = _settings(durability, kills=kills)
    acknowledged: list[int] = []
    last: list[int] = []
    lost = wrong = 0
    first = 0
    for _ in range(kills):
        sample = choice.sample(acknowledged, min(_SAMPLE, len(acknowledged)))
        round_lost, round_wrong, last = _run_round(folder, settings, last + sample, first, choice.expovariate(1 / 0.02))
        lost += round_lost
        wrong += round_wrong
        acknowledged += last
        # What was put and not acknowledged may be there or not; its numbers are not used again.
        first = max([first, *last]) + 10 * _MAX_BATCH
    with VectorCache.open(folder, settings) as cache:
        final_lost, final_wrong = _check(cache, acknowledged)
        generations = len(cache.stats().generations)
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "lost": lost + final_lost,
        "wrong": wrong + final_wrong,
        "generations": generations,
    }


def main() -> None:
    """Run from the command line; status 1 when anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--durability", choices=[*Durability], default=Durability.KILL_SAFE, type=Durability)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="kill-writer-"))
    try:
        counts = run(kills=options.kills, durability=options.durability, folder=folder, seed=options.seed)
    finally:
        shutil.rmtree(folder)
    counts["seed"] = options.seed
    sys.stdout.write(
        json.dumps(counts) + "\n" if options.json else "".join(f"{name:14} {count}\n" for name, count in counts.items())
    )
    sys.exit(1 if counts["lost"] or counts["wrong"] else 0)


if __name__ == "__main__":
    main()
