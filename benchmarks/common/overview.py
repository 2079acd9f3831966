"""The page of kept results: every figure that a benchmark is judged by, of the last run on each kind of processor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent.parent / "results"
PAGE = RESULTS / "README.md"

_HEAD = """# Kept results

One JSON file for each kept run: `NAME-DATE.json`, with the hardware, the machine's load before the run, the keys that the benchmark is
judged by, the whole table and what a reader must know. Made by `python -m benchmarks.NAME --keep`, which also writes this page. Machines
are shared and noisy: compare ratios, not absolute figures. Of each benchmark, the last run on each kind of processor:
"""


def overview() -> str:
    """Return the page, as Markdown."""
    found: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
    for file in sorted(RESULTS.glob("*.json")):  # by name, then date: the last one stays
        kept = json.loads(file.read_text())
        found[kept["benchmark"], kept["hardware"]["processor"]] = (file.name, kept)
    lines = [_HEAD]
    for (name, processor), (file_name, kept) in sorted(found.items()):
        lines += [
            f"### {name}, {processor}",
            f"{kept['hardware']['cores']} cores, load before {kept['hardware']['load_before']}: [{kept['date']}]({file_name})",
            "",
            "| key | figure |",
            "|---|---|",
            *(f"| `{key}` | {_shown(value)} |" for key, value in kept["keys"].items()),
            "",
        ]
    return "\n".join(lines)


def _shown(value: float | None) -> str:
    if value is None:
        return "not run"
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.4g}"
