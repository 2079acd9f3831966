"""Hostile files: what they cost whoever else is served, beside the same calls without them.

1,000 files (400 without --full, in 3 minutes) that are truncated, mutated, bombs, of the wrong type, endless, empty, thin, playlists and
more, half of them sent as videos. Each is sent while another client's call of 63 contents is answered, and the same kind of call is made
alone; the two take turns in who comes first. Ends with an error where a vector was wrong, an error unclear, or memory above its bound.
"""

from __future__ import annotations

import statistics
import sys
from itertools import islice

import numpy as np
from rich.console import Console

from benchmarks.common.run import Result, main
from benchmarks.common.servers import running_service
from tests.faults.hostile_files import Found, hostile_files, run

_FILES, _FULL_FILES = 400, 1_000
_FILES_PER_ROUND = 100
_SLOWEST_KINDS = 4


def measure(full: bool, console: Console) -> Result:
    """Send the files, and hold what became of them against what must be so."""
    console.print("making the files")
    files = list(islice(hostile_files(seed=0), _FULL_FILES if full else _FILES))
    with running_service() as service:
        found = run(service.address, service.process, files)
    if not found.is_sound:
        console.print(
            f"not sound: {found.wrong_vectors} wrong vectors, memory {found.peak_bytes >> 20} MiB of {found.bound_bytes >> 20}"
        )
        console.print("\n".join(found.unclear[:20]))
        sys.exit(1)
    alone, beside = found.p99_s(rounds=len(files) // _FILES_PER_ROUND)
    ratio = statistics.median(two / one for one, two in zip(alone, beside, strict=True))
    medians = [statistics.median(times) for times in (found.alone_s, found.beside_s)]
    whole = [float(np.percentile(times, 99)) for times in (found.alone_s, found.beside_s)]
    return Result(
        columns=("a neighbour's call of 63 contents", "without", "beside a hostile file", "ratio"),
        rows=[
            _row("p50", *medians),
            _row(
                f"p99 of a round of {_FILES_PER_ROUND}, median",
                statistics.median(alone),
                statistics.median(beside),
                ratio,
            ),
            _row("p99 of all", *whole),
            *_kinds(found),
        ],
        keys={
            "hostile_p99_ratio": ratio,
            "hostile_p99_ratio_of_all": whole[1] / whole[0],
            "hostile_wrong_vectors": found.wrong_vectors,
            "hostile_unclear_errors": len(found.unclear),
            "hostile_peak_mib": found.peak_bytes >> 20,
        },
        notes=(
            f"{len(files)} files, half of them as videos, seed 0; outcomes: "
            + ", ".join(f"{count} {name}" for name, count in sorted(found.outcomes.items()))
            + f". {found.wrong_vectors} wrong vectors of {2 * 63 * len(files)}.",
            "The ratio of rounds is the median of the rounds' own ratios. The client, the sender and the service share the cores.",
            f"Memory of all the service's processes, measured: {found.peak_bytes >> 20} MiB at most, {found.start_bytes >> 20} before, "
            f"bound {found.bound_bytes >> 20} (shared pages count in each process that maps them).",
        ),
    )


def _row(what: str, without_s: float, beside_s: float, ratio: float | None = None) -> tuple[str, ...]:
    shown = beside_s / without_s if ratio is None else ratio
    return (what, f"{1e3 * without_s:.1f} ms", f"{1e3 * beside_s:.1f} ms", f"{shown:.3f}")


def _kinds(found: Found) -> list[tuple[str, ...]]:
    """Return rows of the kinds of file that cost a neighbour most, by medians."""
    times: dict[str, tuple[list[float], list[float]]] = {}
    for kind, alone, beside in zip(found.kinds, found.alone_s, found.beside_s, strict=True):
        kept = times.setdefault(kind, ([], []))
        kept[0].append(alone)
        kept[1].append(beside)
    rows = {kind: (statistics.median(alone), statistics.median(beside)) for kind, (alone, beside) in times.items()}
    dearest = sorted(rows, key=lambda kind: rows[kind][1] / rows[kind][0], reverse=True)
    return [_row(f"p50 of {kind}", *rows[kind]) for kind in dearest[:_SLOWEST_KINDS]]


if __name__ == "__main__":
    main("hostile", __doc__ or "", measure)
