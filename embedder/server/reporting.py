"""The savings report of a service, on its savings file and its ledger; needs no model."""

from __future__ import annotations

from pathlib import Path

from embedder.savings.carbon import LiveGrid
from embedder.savings.ledger_file import LedgerFile
from embedder.savings.plan import SavingsPlan
from embedder.savings.report_maker import ReportMaker

_CPU_INFO = Path("/proc/cpuinfo")


def open_report(plan: SavingsPlan, ledger: LedgerFile, *, processor: str) -> ReportMaker:
    """Stand the report on the savings file and the ledger.

    Args:
        processor: what the device calls itself; empty for this machine's processor.
    """
    grid = LiveGrid(plan.grid_feed) if plan.grid_feed else None
    return ReportMaker(ledger, plan, processor or _processor_name(), grid)


def _processor_name() -> str:
    """Return the processor's name by the kernel; empty where that is not told."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
