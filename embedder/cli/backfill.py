"""embedder-backfill: understands what exists already, once, and goes on where it was killed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from embedder.cli.backfill_options import (
    Again,
    AsJson,
    Column,
    Config,
    DataDir,
    Device,
    ExecutorName,
    IdColumn,
    Index,
    JobName,
    Kind,
    MaxRejects,
    Model,
    Npy,
    Parquet,
    PostFields,
    Precision,
    RayAddress,
    ShardRows,
    Sources,
    Space,
    Target,
    TlsRoot,
    Token,
)
from embedder.cli.backfill_progress import RunProgress, planning, shown
from embedder.cli.backfill_view import plan_table, status_table
from embedder.cli.logs import configure_logs
from embedder.cli.process import SWITCH_INTERVAL_S
from embedder.errors import ConfigurationError, EmbedderError, InvalidRequest, UnknownSpace

if TYPE_CHECKING:
    from embedder.backfill.job_runner import JobRunner
    from embedder.backfill.manifest import Manifest
    from embedder.config import ServeSettings

FAILED, WRONG, TOO_MANY_REJECTS, INCOMPLETE, STOPPED = 1, 2, 3, 4, 130

_HELP = """Understand what exists already, once: from files into the vector cache, at the encoder's own speed.

A job is planned into a manifest of shards; a shard is done when its vectors are committed. The cache is asked first, so whatever exists is
skipped at look-up speed, and a job that was killed goes on where it was: run the same command again.

Settings of the space (model, precision, ...) are embedder-serve's: give the same --config file, or the same EMBEDDER_ variables.

Exit codes: 0 done, rejects or not; 1 the job could not go on; 2 a setting or source is wrong; 3 more rejects than --max-rejects;
4 verify found something missing; 130 stopped by a signal."""

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True, help=_HELP
)
console = Console()
errors = Console(stderr=True)

_FOLLOW_INTERVAL_S = 1.0


@app.command()
def run(
    sources: Sources = None,
    *,
    column: Column = "",
    kind: Kind = None,
    post: PostFields = None,
    item_id: IdColumn = "",
    job: JobName = "",
    parquet: Parquet = None,
    npy: Npy = None,
    index: Index = "",
    target: Target = "",
    token: Token = "",
    tls_root: TlsRoot = None,
    executor: ExecutorName = "local",
    ray_address: RayAddress = "",
    again: Again = False,
    max_rejects: MaxRejects = None,
    shard_rows: ShardRows = 0,
    config: Config = None,
    data_dir: DataDir = None,
    model: Model = None,
    precision: Precision = None,
    space: Space = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Plan the job if it is new, and do what is left of it.

    Without --job, the job is named by what is asked and by the sources' sizes and times: the same command goes on with the same job.
    Straight into the cache, of which this process must be the one writer; with --target, through a running service in its bulk lane.
    """
    from embedder.backfill.job_runner import JobRunner, RunOptions
    from embedder.backfill.journal import Journal

    settings = _settings(config, data_dir, model=model, precision=precision, space=space, device=device)
    asked = _Asked(column, kind, tuple(post or ()), item_id, shard_rows)
    outputs = _outputs(parquet, npy, index)
    with _manifest(sources or [], job, settings, asked, outputs=outputs, target=target) as manifest:
        errors.print(f"job {manifest.folder}: {manifest.rows:,} rows in {manifest.shards:,} shards", highlight=False)
        options = RunOptions(
            executor=executor,
            ray_address=ray_address,
            again=again,
            max_rejects=max_rejects,
            token=token,
            tls_root=tls_root,
        )
        _, before = Journal(manifest.folder).totals()
        progress = RunProgress(rows=manifest.rows, before=replace(before, rows=0) if again else before)
        runner = JobRunner(manifest, settings, options)
        with _stopping(runner), shown(progress, rows=manifest.rows, console=errors):
            end = runner.run(on_done=progress.note_done, on_encoded=progress.note_encoded)
        _tell_end(manifest, settings, end=end, as_json=as_json)
        if not end.is_complete:
            raise typer.Exit(STOPPED)


@app.command()
def plan(
    sources: Sources,
    *,
    column: Column = "",
    kind: Kind = None,
    post: PostFields = None,
    item_id: IdColumn = "",
    job: JobName = "",
    parquet: Parquet = None,
    npy: Npy = None,
    index: Index = "",
    target: Target = "",
    shard_rows: ShardRows = 0,
    config: Config = None,
    data_dir: DataDir = None,
    model: Model = None,
    precision: Precision = None,
    space: Space = None,
    as_json: AsJson = False,
) -> None:
    """Read the sources once and write the manifest, and say what `run` would do; computes nothing."""
    settings = _settings(config, data_dir, model=model, precision=precision, space=space, device=None)
    asked = _Asked(column, kind, tuple(post or ()), item_id, shard_rows)
    outputs = _outputs(parquet, npy, index)
    with _manifest(sources or [], job, settings, asked, outputs=outputs, target=target) as manifest:
        if as_json:
            described = {
                "folder": str(manifest.folder),
                "digest": manifest.digest,
                "rows": manifest.rows,
                "shards": manifest.shards,
                "input_bytes": manifest.input_bytes,
                "left_out": manifest.left_out,
                "job": manifest.job.to_json(),
            }
            console.print_json(json.dumps(described))
        else:
            console.print(plan_table(manifest), highlight=False)


@app.command()
def status(
    *,
    job: JobName = "",
    follow: Annotated[bool, typer.Option("--follow", help="Show it anew each second until the job ends.")] = False,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show how far a job is, from any terminal: rows, rate, time left, rejects, money spent and saved. The newest job without --job."""
    from embedder.backfill.job_status import read_status

    settings = _settings(config, data_dir)
    with _known_job(job, settings) as manifest:
        found = read_status(manifest, settings)
        if as_json:
            while True:
                sys.stdout.write(json.dumps(found.to_json()) + "\n")
                sys.stdout.flush()
                if not (follow and found.state == "running"):
                    return
                time.sleep(_FOLLOW_INTERVAL_S)
                found = read_status(manifest, settings)
        with Live(status_table(found), console=console, auto_refresh=False, transient=False) as live:
            while follow and found.state == "running":
                time.sleep(_FOLLOW_INTERVAL_S)
                found = read_status(manifest, settings)
                live.update(status_table(found), refresh=True)


@app.command()
def verify(
    *,
    job: JobName = "",
    token: Token = "",
    tls_root: TlsRoot = None,
    config: Config = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Read a job's sources anew and check that every row's vector is in the cache and sound; what is missing is listed in a file.

    A row that was rejected when it was computed is not missing. `run --again` computes what is.
    """
    from embedder.backfill.job_runner import RunOptions
    from embedder.backfill.journal import ShardDone
    from embedder.backfill.verifying import verify_job

    settings = _settings(config, data_dir)
    with _known_job(job, settings) as manifest:
        progress = RunProgress(rows=manifest.rows, before=ShardDone(shard=-1, rows=0))
        with shown(progress, rows=manifest.rows, console=errors):
            found = verify_job(
                manifest,
                settings,
                RunOptions(token=token, tls_root=tls_root),
                on_progress=lambda rows: progress.note_done(ShardDone(shard=-1, rows=rows)),
            )
    if as_json:
        console.print_json(json.dumps(asdict(found), default=str))
    else:
        console.print(
            f"{found.rows:,} rows: {found.present:,} present and sound, {found.rejected:,} rejected, {found.missing:,} missing"
            + (f", listed in {found.file}" if found.file else ""),
            highlight=False,
        )
    if found.missing:
        raise typer.Exit(INCOMPLETE)


@app.command("list")
def list_command(*, config: Config = None, data_dir: DataDir = None) -> None:
    """List the jobs below the data folder, the newest first."""
    from embedder.backfill.job_folder import list_jobs
    from embedder.backfill.job_status import read_status
    from embedder.backfill.manifest import Manifest

    settings = _settings(config, data_dir)
    for folder in list_jobs(settings.data_dir):
        with Manifest(folder) as manifest:
            found = read_status(manifest, settings, with_money=False)
        console.print(
            f"{folder.name}: {found.state}, {found.done.rows:,} of {found.rows:,} rows, {found.done.rejected:,} rejected",
            highlight=False,
        )


class _Asked:
    """What the options say of the columns."""

    def __init__(self, column: str, kind: str | None, fields: tuple[str, ...], item_id: str, shard_rows: int) -> None:
        self.column, self.kind, self.fields, self.item_id, self.shard_rows = column, kind, fields, item_id, shard_rows


@contextmanager
def _manifest(
    given: list[str], job: str, settings: ServeSettings, asked: _Asked, *, outputs: dict[str, str], target: str
) -> Iterator[Manifest]:
    """Open the manifest of the job that is meant, planning it where it is new."""
    from embedder.backfill.job import Job, Outputs
    from embedder.backfill.job_folder import find_job, open_or_plan
    from embedder.backfill.manifest import Manifest
    from embedder.backfill.planning import AskedColumns, absolute
    from embedder_client.content_hash import Modality

    folder = find_job(job, settings.data_dir) if job else None
    if not given:
        if folder is None:
            raise InvalidRequest("name the files and folders to read, or with --job a job that was begun")
        with Manifest(folder) as manifest:
            yield manifest
        return
    with planning(errors, title="Planning") as note:
        wanted = Job(
            sources=absolute([_spooled(source, settings, note) for source in given]),
            columns=None,
            model=settings.model,
            precision=settings.precision,
            space=settings.space,
            shard_rows=asked.shard_rows,
            outputs=Outputs(**outputs),
            target=target,
        )
        columns = AskedColumns(
            column=asked.column,
            modality=Modality(asked.kind) if asked.kind else None,
            fields=asked.fields,
            id_column=asked.item_id,
        )
        manifest = open_or_plan(folder, wanted, columns, data_dir=settings.data_dir, on_progress=note)
    with manifest:
        if manifest.left_out:
            errors.print(f"{manifest.left_out:,} files are of no known kind, and left out", highlight=False)
        yield manifest


def _spooled(source: str, settings: ServeSettings, note: Any) -> str:
    from embedder.backfill.job_folder import jobs_folder
    from embedder.backfill.sources.spool import spool

    if source != "-":
        return source
    return str(spool(sys.stdin.buffer, jobs_folder(settings.data_dir) / ".stdin", on_progress=note))


@contextmanager
def _known_job(name: str, settings: ServeSettings) -> Iterator[Manifest]:
    from embedder.backfill.job_folder import find_job, jobs_folder, list_jobs
    from embedder.backfill.manifest import Manifest

    folder = find_job(name, settings.data_dir) if name else next(iter(list_jobs(settings.data_dir)), None)
    if folder is None:
        raise InvalidRequest(f"there is no job in {jobs_folder(settings.data_dir)}")
    with Manifest(folder) as manifest:
        yield manifest


def _outputs(parquet: Path | None, npy: Path | None, index: str) -> dict[str, str]:
    if npy is not None and npy.suffix != ".npy":
        raise InvalidRequest(f"--npy {npy}: the file's name ends in .npy")
    return {
        "parquet": str(parquet.expanduser().absolute()) if parquet else "",
        "npy": str(npy.expanduser().absolute()) if npy else "",
        "index": index,
    }


def _settings(config: Path | None, data_dir: Path | None, **given: str | None) -> ServeSettings:
    from embedder.config import load_settings

    overrides: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if data_dir is not None:
        overrides["data_dir"] = data_dir
    if config is not None:
        overrides["config"] = config
    return load_settings(**overrides)


@contextmanager
def _stopping(runner: JobRunner) -> Iterator[None]:
    """At Ctrl-C let the shards that are under way end; at a second one, and at SIGTERM, stop at once: what is committed stays."""

    def interrupt(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        errors.print(
            "Stopping after the shards that are under way; once more stops at once. Nothing committed is lost."
        )
        # In a thread: a handler must not wait for a lock that the thread which it interrupts may hold.
        threading.Thread(target=runner.stop, name="backfill-stop", daemon=True).start()

    def terminate(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell_end(manifest: Manifest, settings: ServeSettings, *, end: Any, as_json: bool) -> None:
    from embedder.backfill.job_status import read_status

    found = read_status(manifest, settings)
    if as_json:
        console.print_json(json.dumps({**found.to_json(), "outputs": list(end.outputs), "was_done": end.was_done}))
        return
    if end.was_done:
        errors.print("Everything was done already; --again asks for every row anew.", highlight=False)
    console.print(status_table(found))
    for line in end.outputs:
        console.print(f"written: {line}", highlight=False)
    if not end.is_complete:
        errors.print(f"Stopped; embedder-backfill run --job {manifest.folder.name} goes on.", highlight=False)


def main() -> None:
    """Run the command; what goes wrong is one line on standard error, and a status that says which kind it was."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    sys.setswitchinterval(SWITCH_INTERVAL_S)  # the encoder's threads never wait long for one that reads
    configure_logs(log_format="auto", level=os.environ.get("EMBEDDER_LOG_LEVEL", "warning"))
    try:
        app()
    except KeyboardInterrupt:
        errors.print("Stopped; the same command goes on.")
        sys.exit(STOPPED)
    except EmbedderError as error:
        errors.print(f"[bold red]embedder-backfill:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(_status(error))
    except Exception as error:
        from embedder_client import EmbedderClientError

        if not isinstance(error, EmbedderClientError):
            raise
        errors.print(f"[bold red]embedder-backfill:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(FAILED)


def _status(error: EmbedderError) -> int:
    from embedder.backfill.coordinator import TooManyRejects

    if isinstance(error, TooManyRejects):
        return TOO_MANY_REJECTS
    return WRONG if isinstance(error, ConfigurationError | InvalidRequest | UnknownSpace) else FAILED


if __name__ == "__main__":
    main()
