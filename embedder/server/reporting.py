"""The savings report of a service, on its savings file and its ledger; needs no model."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack
from pathlib import Path

import structlog

from embedder.errors import EmbedderError
from embedder.savings.carbon import LiveGrid
from embedder.savings.ledger_file import LedgerFile
from embedder.savings.plan import SavingsPlan
from embedder.savings.power import CallEnergy
from embedder.savings.report_maker import ReportMaker
from embedder.server.periodic import Periodic

_log = structlog.get_logger(__name__)

# The power of calls is a mean over an hour: read so often, it is old by little.
_POWER_S = 10.0
_CPU_INFO = Path("/proc/cpuinfo")


def open_report(plan: SavingsPlan, ledger: LedgerFile, *, processor: str) -> ReportMaker:
    """Stand the report on the savings file and the ledger.

    Args:
        processor: what the device calls itself; empty for this machine's processor.
    """
    grid = LiveGrid(plan.grid_feed) if plan.grid_feed else None
    return ReportMaker(ledger, plan, processor or _processor_name(), grid)


def start_call_energy(report: ReportMaker, stack: ExitStack) -> CallEnergy:
    """Tell calls their energy from now on, by what the report knows of the device and the ledger shows of its power."""
    _, device = report.plan.device_named(report.device)
    energy = CallEnergy(report.ledger, device)

    def refresh() -> None:
        try:
            energy.refresh()
        except (sqlite3.Error, OSError, EmbedderError) as error:  # such as a keeper that is being started anew
            _log.warning("the power of calls could not be read from the ledger", error=str(error))

    reading = Periodic(refresh, pause_s=_POWER_S, name="call-energy")
    reading.start()
    stack.callback(reading.stop)
    return energy


def _processor_name() -> str:
    """Return the processor's name by the kernel; empty where that is not told."""
    lines = _CPU_INFO.read_text().splitlines() if _CPU_INFO.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
