"""Energy of single calls: by the meter where there is one, else by the power model, else absent."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from embedder.errors import Unavailable
from embedder.savings.figures import Basis
from embedder.savings.ledger import Ledger
from embedder.savings.plan import Device, load_plan
from embedder.savings.power import CallEnergy
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage import Counts, Group
from embedder.server.reporting import start_call_energy

_PLAN = """
[devices."test part"]
per = "{per}"
match = ["test part"]
idle_watts = {{ value = 10, source = "a data sheet", year = 2026 }}
busy_watts = {{ value = 50, source = "a data sheet", year = 2026 }}
"""
_GROUP = Group("t", "c", "s", "interactive")
# Two cores at work for a second and a half each.
_WORK = Counts(asked=1, encodes=1, device_ns=3 * 10**9, wall_ns=15 * 10**8, lookups=1)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger(tmp_path / "savings.sqlite")
    yield made
    made.close()


def _device(folder: Path, per: str) -> Device:
    (folder / "plan.toml").write_text(_PLAN.format(per=per))
    return load_plan(folder / "plan.toml").devices["test part"]


@pytest.mark.parametrize(("per", "joules"), [("core", 80.0), ("device", 40.0)])
def test_power_model_is_charged_for_what_is_priced(ledger: Ledger, tmp_path: Path, per: str, joules: float) -> None:
    ledger.record(_GROUP, _WORK)
    energies = CallEnergy(ledger, _device(tmp_path, per))
    energies.refresh()
    energy = energies.of(2.0)
    assert energy is not None
    # 40 W above idle; where the whole device is priced, two CPU seconds of two cores are one of its seconds.
    assert (energy.value, energy.basis, energy.unit) == (pytest.approx(joules), Basis.ESTIMATED, "J")
    assert "a data sheet" in energy.source


def test_what_was_metered_goes_before_the_model_and_counts_from_the_next_look(ledger: Ledger, tmp_path: Path) -> None:
    energies = CallEnergy(ledger, _device(tmp_path, "core"))
    ledger.record(_GROUP, Counts(asked=1, encodes=1, device_ns=10**9, wall_ns=10**9, energy_uj=7_000_000, lookups=1))
    before, _ = energies.of(1.0), energies.refresh()
    after = energies.of(1.0)
    assert before is not None
    assert after is not None
    assert (before.value, after.value) == (pytest.approx(40.0), pytest.approx(7.0))


def test_unknown_power_is_no_energy(ledger: Ledger) -> None:
    ledger.record(_GROUP, _WORK)
    energies = CallEnergy(ledger, None)
    energies.refresh()
    assert energies.of(2.0) is None


def test_a_call_that_computed_nothing_took_none(ledger: Ledger, tmp_path: Path) -> None:
    energy = CallEnergy(ledger, _device(tmp_path, "core")).of(0.0)
    assert energy is not None
    assert energy.value == 0.0


def test_a_ledger_that_cannot_be_read_leaves_the_power_model(tmp_path: Path) -> None:
    class Unreadable:
        def totals(self, part: object) -> dict[tuple[str, ...], Counts]:
            told.set()
            raise Unavailable("the keeper is being started anew")

    told = threading.Event()
    _device(tmp_path, "core")
    report = ReportMaker(Unreadable(), load_plan(tmp_path / "plan.toml"))  # type: ignore[arg-type]  # what it reads alone
    with ExitStack() as stack:
        energies = start_call_energy(replace(report, device="test part"), stack)
        assert told.wait(10)
    energy = energies.of(1.0)
    assert energy is not None
    assert energy.value == pytest.approx(40.0)
