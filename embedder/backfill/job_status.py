"""How far a job is, read from its folder by any process: rows, rate, time left, rejects, money spent and saved."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from embedder.backfill.job_runner import task_of
from embedder.backfill.journal import JobRun, Journal, ShardDone
from embedder.backfill.manifest import Manifest
from embedder.backfill.outputs.rejects import Rejects
from embedder.config import ServeSettings
from embedder.savings.figures import Figure
from embedder.savings.ledger_file import LedgerFile
from embedder.savings.plan import load_plan
from embedder.savings.report import GroupBy, SavingsQuery, SavingsReport
from embedder.server.reporting import open_report


@dataclass(frozen=True, slots=True)
class JobStatus:
    """How far a job is.

    Attributes:
        folder: the job's.
        rows: rows in all.
        shards: shards in all.
        shards_done: shards that are done.
        done: what these came to.
        rows_a_second: over the last minute in which shards were done.
        eta_s: seconds until the end at this rate, estimated; None where there is no rate.
        run: the newest run; None where the job has not run.
        runs: how many runs there were.
        is_finished: whether all is done, outputs too.
        spent_usd: what the computing cost; None where no price is known.
        saved_usd: what asking the cache first saved; None likewise.
        spent_s: device seconds spent, and seconds of look-ups.
        saved_s: device seconds saved.
        notes: what the figures could not know, in words.
    """

    folder: Path
    rows: int
    shards: int
    shards_done: int
    done: ShardDone
    rows_a_second: float
    eta_s: float | None
    run: JobRun | None
    runs: int
    is_finished: bool
    spent_s: Figure | None = None
    saved_s: Figure | None = None
    spent_usd: Figure | None = None
    saved_usd: Figure | None = None
    notes: tuple[str, ...] = ()

    @property
    def state(self) -> str:
        """One word for people: finished, running, planned, killed, or how the last run ended."""
        if self.run is None:
            return "planned"
        if self.run.is_running:
            return "running"
        if self.is_finished:
            return "finished"
        return self.run.outcome or "killed"

    def to_json(self) -> dict[str, Any]:
        """Return plain values; every figure says what it is."""
        done = {name: value for name, value in asdict(self.done).items() if name not in ("shard", "rows")}
        return {
            "job": str(self.folder),
            "state": self.state,
            "rows": self.rows,
            "rows_done": self.done.rows,
            "shards": self.shards,
            "shards_done": self.shards_done,
            **done,
            "encoding": self.run.encoding if self.run and self.run.is_running else 0,
            "rows_a_second": round(self.rows_a_second, 2),
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "runs": self.runs,
            "rejects_file": str(Rejects(self.folder).path),
            **{name: _figure(getattr(self, name)) for name in ("spent_s", "saved_s", "spent_usd", "saved_usd")},
            "notes": list(self.notes),
        }


def read_status(manifest: Manifest, settings: ServeSettings, *, with_money: bool = True) -> JobStatus:
    """Read how far a job is.

    Args:
        settings: say where the ledger and the savings file are.
        with_money: whether the ledger is priced too.
    """
    journal = Journal(manifest.folder)
    shards_done, done = journal.totals()
    rate, run = journal.recent_rate(), journal.last_run()
    report = _report(manifest, settings) if with_money and not manifest.job.target else None
    notes = report.notes if report else ()
    if manifest.job.target:
        notes = (f"money stands in the service's own report: embedder-report --task '{task_of(manifest)}'",)
    total = report.total if report else None
    return JobStatus(
        folder=manifest.folder,
        rows=manifest.rows,
        shards=manifest.shards,
        shards_done=shards_done,
        done=done,
        rows_a_second=rate,
        eta_s=(manifest.rows - done.rows) / rate if rate else None,
        run=run,
        runs=journal.runs(),
        is_finished=journal.is_finished(),
        spent_s=total.shared.seconds if total else None,
        saved_s=total.saved.seconds if total else None,
        spent_usd=total.shared.usd if total else None,
        saved_usd=total.saved.usd if total else None,
        notes=notes,
    )


def _report(manifest: Manifest, settings: ServeSettings) -> SavingsReport | None:
    """Price what the ledger knows of the job; None where there is no ledger yet."""
    if not settings.ledger_path.is_file():
        return None
    maker = open_report(load_plan(settings.savings_file), LedgerFile(settings.ledger_path), processor="")
    return maker.make(SavingsQuery(group_by=GroupBy.NONE, task=task_of(manifest)))


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    return None if figure is None else {"value": figure.value, "unit": figure.unit, "basis": figure.basis.value}
