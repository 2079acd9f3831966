"""Jobs as tables for people."""

from __future__ import annotations

from collections import Counter
from itertools import islice

from rich.filesize import decimal
from rich.table import Table

from embedder.backfill.job_status import JobStatus
from embedder.backfill.manifest import Manifest
from embedder.backfill.outputs.rejects import Rejects
from embedder.cli.backfill_progress import duration
from embedder.savings.figures import Figure

_SHOWN_SOURCES = 100_000


def plan_table(manifest: Manifest) -> Table:
    """Say what a job reads, and what becomes of it."""
    job = manifest.job
    table = _table(f"job {manifest.folder.name}")
    table.add_row("rows", f"{manifest.rows:,} in {manifest.shards:,} shards of at most {manifest.most_rows:,}")
    formats = Counter(source.format for source in islice(manifest.sources(), _SHOWN_SOURCES))
    table.add_row(
        "sources", f"{decimal(manifest.input_bytes)}: " + ", ".join(f"{n:,} {name}" for name, n in formats.items())
    )
    if manifest.left_out:
        table.add_row("left out", f"{manifest.left_out:,} files of no known kind")
    if job.columns is not None:
        columns = job.columns
        fields = ", ".join(f"{field.name} = {field.modality} of {field.column}" for field in columns.fields)
        table.add_row("each row", fields or f"{columns.modality} of the column {columns.column}")
        table.add_row("ids", f"column {columns.id_column}" if columns.id_column else "FILE#NUMBER")
    table.add_row("space", f"{job.space}, model {job.model}, precision {job.precision}")
    table.add_row("computed by", job.target or "this machine, straight into the cache")
    outputs = [
        part
        for part in (job.outputs.parquet, job.outputs.npy, job.outputs.index and f"index {job.outputs.index}")
        if part
    ]
    if outputs:
        table.add_row("also written", ", ".join(outputs))
    table.add_row("folder", str(manifest.folder))
    return table


def status_table(status: JobStatus) -> Table:
    """Say how far a job is."""
    done, table = status.done, _table(f"job {status.folder.name}: {status.state}")
    share = f" ({done.rows / status.rows:.1%})" if status.rows else ""
    table.add_row(
        "rows", f"{done.rows:,} of {status.rows:,}{share}, {status.shards_done:,} of {status.shards:,} shards"
    )
    table.add_row(
        "vectors",
        f"{done.held:,} held, {done.computed:,} computed, {done.joined:,} joined"
        + (f", {done.shared:,} from the shared cache" if done.shared else ""),
    )
    if status.run is not None and status.run.is_running:
        table.add_row("under way", f"{status.run.encoding:,} computed of shards that are not done yet")
        left = f", {duration(status.eta_s)} left (estimated)" if status.eta_s is not None else ""
        table.add_row("rate", f"{status.rows_a_second:,.1f} rows/s (measured){left}")
    table.add_row("rejects", f"{done.rejected:,}" + (f", in {Rejects(status.folder).path}" if done.rejected else ""))
    table.add_row("spent", _spent(status.spent_s, status.spent_usd))
    table.add_row("saved", _spent(status.saved_s, status.saved_usd))
    for note in status.notes:
        if note.startswith("money"):
            table.add_row("", note)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))


def _spent(seconds: Figure | None, usd: Figure | None) -> str:
    if seconds is None:
        return "not known"
    money = f", {usd.value:,.4f} USD ({usd.basis})" if usd is not None else ""
    return f"{seconds.value:,.1f} device seconds ({seconds.basis}){money}"
