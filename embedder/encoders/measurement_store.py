"""Keeps measured precisions, so that only the first start on a machine measures."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from embedder.encoders.precision_measurement import Measurement

_LIBRARIES = ("torch", "transformers", "open_clip_torch", "onnxruntime", "torchao")
# Raised when what is measured changes.
_VERSION = 1


class MeasurementStore:
    """One file for each model, device and set of libraries: numerics class to measurement."""

    def __init__(self, folder: Path, identity: Mapping[str, str], device: torch.device) -> None:
        """Open what earlier starts measured.

        Args:
            folder: made when something is kept.
            identity: names the model, see `EncoderInfo.identity`.
            device: where it runs.
        """
        named = json.dumps([_VERSION, dict(identity), *_describe_device(device), _versions()], sort_keys=True)
        self._file = folder / f"{hashlib.sha256(named.encode()).hexdigest()[:32]}.json"
        self._kept = _read(self._file)

    def get(self, key: str) -> Measurement | None:
        """Return what was measured under a key, or None."""
        return self._kept.get(key)

    def put(self, key: str, measurement: Measurement) -> None:
        """Keep a measurement, on disk too."""
        self._kept[key] = measurement
        self._file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._file.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps({name: asdict(one) for name, one in self._kept.items()}, indent=1) + "\n")
        unfinished.replace(self._file)


def _read(file: Path) -> dict[str, Measurement]:
    try:
        return {name: Measurement(**fields) for name, fields in json.loads(file.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        # Missing, or cut short: it is measured again.
        return {}


def _describe_device(device: torch.device) -> tuple[str, int]:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device), 1
    return f"cpu {torch.backends.cpu.get_cpu_capability()} {_processor()}", torch.get_num_threads()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _versions() -> dict[str, str]:
    found = {}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = ""
    return found
