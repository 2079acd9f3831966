"""Random operations on a cache beside a dict, for hours if wished.

    python -m tests.faults.soak --steps 100000 [--seed N]

Puts, gets, deletions, erasures, rotations, compactions, crashes and reopenings in random order, on a cache that is small
enough to evict. Every answer is compared with what the dict allows: no wrong vector, no lost entry, no erased one back,
files within their limit.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from pathlib import Path

from rich.progress import track

from embedder_cache import CacheSettings
from tests.faults.store_model import StoreModel

_SPACES = 3
_NUMBERS = 30_000
_VERSIONS = 4
_SETTINGS = CacheSettings(max_bytes=8 << 20, generations=4, sample_rate=0.1)
_WEIGHTS = {
    "get": 600,
    "put": 300,
    "delete": 60,
    "rotate": 10,
    "reopen": 10,
    "crash": 6,
    "erase_space": 2,
    "compact": 4,
    "check_size": 20,
    "check_all": 1,
}


def run(*, steps: int, seed: int, folder: Path) -> None:
    """Do `steps` random operations; raises AssertionError when an answer is not allowed."""
    choice = random.Random(seed)
    model = StoreModel(folder, _SETTINGS)
    try:
        for _ in track(range(steps), description="soaking", disable=not sys.stderr.isatty()):
            operation = choice.choices([*_WEIGHTS], [*_WEIGHTS.values()])[0]
            space = choice.randrange(_SPACES)
            # Some contents are far more popular than others.
            numbers = [int(_NUMBERS * choice.random() ** 3) for _ in range(choice.randint(1, 200))]
            match operation:
                case "put":
                    model.put(space, list(dict.fromkeys(numbers)), choice.randrange(_VERSIONS))
                case "get" | "delete":
                    getattr(model, operation)(space, numbers)
                case "erase_space":
                    model.erase_space(space)
                case _:
                    getattr(model, operation)()
    finally:
        model.close()


def main() -> None:
    """Run from the command line; an unmet promise ends it with a traceback."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    options = parser.parse_args()
    sys.stdout.write(f"seed {options.seed}\n")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    try:
        run(steps=options.steps, seed=options.seed, folder=folder)
    finally:
        shutil.rmtree(folder)
    sys.stdout.write(f"{options.steps} steps, every answer as it must be\n")


if __name__ == "__main__":
    main()
