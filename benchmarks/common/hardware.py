"""The hardware that a benchmark ran on, as far as the machine tells."""

from __future__ import annotations

import os
import platform
from pathlib import Path

_FLAGS_OF_NOTE = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16")


def describe_hardware() -> dict[str, str | int | list[str] | float]:
    """Return processor, cores, memory, instruction sets of note, Python, and the load before the benchmark."""
    fields = _cpuinfo()
    flags = set(fields.get("flags", "").split())
    return {
        "processor": fields.get("model name", platform.processor() or "unknown"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)),
        "instruction_sets": [flag for flag in _FLAGS_OF_NOTE if flag in flags],
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def one_line(hardware: dict[str, str | int | list[str] | float]) -> str:
    """Return the hardware as a line under a table."""
    sets = hardware["instruction_sets"]
    assert isinstance(sets, list)
    return (
        f"{hardware['processor']}, {hardware['cores']} cores, {hardware['memory_gib']} GiB, {' '.join(sets)}, "
        f"Python {hardware['python']}, load before {hardware['load_before']}"
    )


def _cpuinfo() -> dict[str, str]:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return {}
    pairs = [line.partition(":") for line in path.read_text().splitlines() if ":" in line]
    return {name.strip(): value.strip() for name, _, value in pairs}
