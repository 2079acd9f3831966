"""Media: preparing per format beside Pillow's reference, and images a second through gRPC beside a plain open_clip loop, for the
default space and ViT-B/32.

Preparing runs on one core, from a file's bytes to the normalized pixels that a model takes. The loop decodes, preprocesses and
encodes the same files in batches of 32, with the same model on the same cores. All take turns.
"""

from __future__ import annotations

from rich.console import Console

from benchmarks.common.image_preparing import measure_preparing
from benchmarks.common.image_rates import measure_rates
from benchmarks.common.nvjpeg import measure_nvjpeg
from benchmarks.common.run import Result, main

_SECTIONS = (measure_preparing, measure_nvjpeg, measure_rates)
_COLUMNS = ("what", "ours", "ours by a worker", "reference", "OpenCV", "ours to reference")


def measure(full: bool, console: Console) -> Result:
    """Run every section in turn."""
    sections = [section(full, console) for section in _SECTIONS]
    return Result(
        _COLUMNS,
        [row for section in sections for row in section.rows],
        {key: figure for section in sections for key, figure in section.keys.items()},
        [note for section in sections for note in section.notes],
    )


if __name__ == "__main__":
    main("media", __doc__ or "", measure)
