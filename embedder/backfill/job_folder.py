"""A job's folder: found by its name, or named by what is asked, and worked on by one process at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from embedder.backfill.job import Job
from embedder.backfill.manifest import Manifest
from embedder.backfill.planning import AskedColumns, plan
from embedder.errors import ConfigurationError

_LOCK = "lock"
_SHOWN_DIGITS = 8


def jobs_folder(data_dir: Path) -> Path:
    """Return where jobs are kept."""
    return data_dir / "backfill"


def find_job(name: str, data_dir: Path) -> Path:
    """Return the folder of a job: a name below the data folder, or a path."""
    return Path(name).expanduser().absolute() if os.sep in name else jobs_folder(data_dir) / name


def list_jobs(data_dir: Path) -> list[Path]:
    """Return the folders of all jobs below a data folder, the newest first."""
    folder = jobs_folder(data_dir)
    found = [path.parent for path in folder.glob("*/manifest.json") if not path.parent.name.startswith(".")]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def open_or_plan(
    folder: Path | None, job: Job, asked: AskedColumns, *, data_dir: Path, on_progress: Callable[[int], None]
) -> Manifest:
    """Open the job that was planned for just this, or plan it.

    Args:
        folder: the job's; None names it by what is asked and by the sizes and times of the sources, so that the same command goes on
            with the same job, and a changed source is another job.
    Raises:
        ConfigurationError: the folder holds a job for something else.
        InvalidRequest: it can't be planned.
    """
    if folder is not None and (folder / "manifest.json").is_file():
        manifest = Manifest(folder)
        _check_same(manifest, job, asked)
        return manifest
    root = jobs_folder(data_dir) if folder is None else folder.parent
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = root / f".planning-{os.getpid()}"
    shutil.rmtree(draft, ignore_errors=True)
    with plan(draft, job, asked, on_progress=on_progress) as planned:
        place = folder or root / f"{_plain(job.title)}-{planned.digest[:_SHOWN_DIGITS]}"
    if place.exists() and (place / "manifest.json").is_file():
        shutil.rmtree(draft)
    else:
        draft.rename(place)
    return Manifest(place)


@contextmanager
def working_on(folder: Path) -> Iterator[None]:
    """Keep other processes from working on the same job; the system lets go when this one ends, however it ends."""
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise ConfigurationError(
            f"another process works on this job; see embedder-backfill status --job {folder}"
        ) from error
    finally:
        os.close(lock)


def _check_same(manifest: Manifest, job: Job, asked: AskedColumns) -> None:
    """Refuse to go on with a job as if it were another."""
    planned = manifest.job
    given, known = asdict(replace(job, columns=None)), asdict(replace(planned, columns=None))
    differing = [name for name in given if given[name] != known[name] and name != "shard_rows"]
    columns = planned.columns
    if columns is not None:
        stated = {"--column": asked.column, "--id": asked.id_column, "--kind": asked.modality}
        meant = {"--column": columns.column, "--id": columns.id_column, "--kind": columns.modality}
        differing += [name for name, value in stated.items() if value and value != meant[name]]
        fields = {f"{field.name}={field.column}" for field in columns.fields}
        if asked.fields and {given.partition(":")[0] for given in asked.fields} != fields:
            differing.append("--post")
    if differing:
        raise ConfigurationError(
            f"the job in {manifest.folder} was planned with another {', '.join(differing)}: name another --job, or leave out what it "
            "knows already (embedder-backfill run --job NAME goes on with it)"
        )


def _plain(title: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in title)[:40] or "backfill"
