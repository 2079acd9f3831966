"""What a running service says of its spaces: a file beside the registry, so that tools see what became of a change."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TextIO

SERVING_FILE = "spaces-served.json"


class SpaceState(StrEnum):
    """How a space is."""

    LOADING = "loading"
    READY = "ready"
    SHADOW = "shadow"
    SERVING = "serving"
    REFUSED = "refused"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class SpaceReport:
    """One space as the service has it.

    Attributes:
        name: full name.
        state: how it is: `serving` where an alias points at it.
        digest: 64 hex digits; empty until it is loaded.
        dim: length of a vector; 0 until it is loaded.
        summary: its model for people; empty until it is loaded.
        reason: why it was refused.
    """

    name: str
    state: SpaceState
    digest: str = ""
    dim: int = 0
    summary: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ServingReport:
    """What is served now.

    Attributes:
        revision: of the registry that this follows; 0 where there is none.
        model: what `--model` said.
        space: what `--space` said.
        precision: what `--precision` said.
        spaces: those that are loaded, loading or refused.
        aliases: where aliases point.
        refused: why the registry as a whole can't be followed; empty where it is.
        is_running: whether the service that said so still runs.
    """

    revision: int
    model: str
    space: str
    precision: str
    spaces: tuple[SpaceReport, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    refused: str = ""
    is_running: bool = False

    def space_report(self, name: str) -> SpaceReport | None:
        """Return what is said of a space."""
        return next((space for space in self.spaces if space.name == name), None)


class ServingFile:
    """Writes a service's reports; its lock says that the service runs."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / SERVING_FILE
        self._lock: TextIO | None = _lock_path(data_dir).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def write(self, report: ServingReport) -> None:
        """Say what is served now."""
        draft = self._path.with_name(f".{self._path.name}.draft")
        told = asdict(report)
        told.pop("is_running")
        draft.write_text(json.dumps(told, indent=2) + "\n")
        os.chmod(draft, 0o600)
        draft.replace(self._path)

    def close(self) -> None:
        """Say that the service has ended."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def read_serving(data_dir: Path) -> ServingReport | None:
    """Return what the service of a data folder said last; None where none ever ran there."""
    try:
        told = json.loads((data_dir / SERVING_FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    spaces = tuple(SpaceReport(**{**space, "state": SpaceState(space["state"])}) for space in told.pop("spaces"))
    return ServingReport(**told, spaces=spaces, is_running=is_running(data_dir))


def is_running(data_dir: Path) -> bool:
    """Return whether a service runs on a data folder."""
    try:
        with _lock_path(data_dir).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def wait_for(
    data_dir: Path, is_so: Callable[[ServingReport], bool], *, wait_s: float, step_s: float = 0.02
) -> ServingReport | None:
    """Wait until a running service says what is waited for.

    Returns:
        What it said; None when it did not in time, or does not run.
    """
    deadline = time.monotonic() + wait_s
    while True:
        report = read_serving(data_dir)
        if report is None or not report.is_running:
            return None
        if is_so(report):
            return report
        if time.monotonic() > deadline:
            return None
        time.sleep(step_s)


def _lock_path(data_dir: Path) -> Path:
    return data_dir / ".spaces-served.lock"
