"""The plan past one machine: the page is what the program makes, and its arithmetic is right."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def plan() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("scale_plan", ROOT / "deploy/scale/plan.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scale_plan"] = module  # where its dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["scale_plan"]


def test_page_is_what_its_program_makes(plan: ModuleType) -> None:
    assert (ROOT / "docs/scale.md").read_text() == plan.page(plan.read_inputs()), "python deploy/scale/plan.py --write"


def test_every_input_says_what_it_is_and_where_it_is_from(plan: ModuleType) -> None:
    for given in plan.read_inputs().values():
        assert given.basis in {"measured", "published", "computed", "assumed"}
        assert given.source
        assert given.value > 0


def test_small_load_is_worked_out_as_by_hand(plan: ModuleType) -> None:
    inputs = plan.read_inputs()
    made = plan.make_plan(inputs, queries_a_day=86_400, hit_rate=0.5)  # one a second
    given = {name: one.value for name, one in inputs.items()}
    assert made.machines == 1
    assert made.peak_qps == pytest.approx(given["peak_to_mean"])
    assert made.encode_cores == pytest.approx(made.peak_qps * 0.5 * given["encode_ms"] * 1e-3 / given["use"])
    front_s = 1e-6 * (given["item_us"] + given["call_us"] / given["call_items"])
    assert made.front_cores == pytest.approx(made.peak_qps * front_s / given["use"])
    assert made.cache_bytes == pytest.approx(43_200 * given["kept_days"] * given["entry_bytes"])
    work_s = 86_400 * (front_s + 0.5 * given["encode_ms"] * 1e-3)
    assert made.kwh_day == pytest.approx(work_s * given["core_watts"] * given["pue"] / 3.6e6)


def test_machines_hold_what_is_asked_of_them_and_no_more_are_there(plan: ModuleType) -> None:
    inputs = plan.read_inputs()
    given = {name: one.value for name, one in inputs.items()}
    for rate in plan.HIT_RATES:
        made = plan.make_plan(inputs, queries_a_day=plan.QUERIES_A_DAY, hit_rate=rate)
        cores = made.front_cores + made.encode_cores
        assert cores <= made.machines * given["machine_cores"] * 1.01
        assert made.cache_bytes <= made.machines * given["machine_bytes"]
        assert made.network_bytes_s <= made.machines * given["machine_net"]
        most = max(
            cores / given["machine_cores"],
            made.cache_bytes / given["machine_bytes"],
            made.network_bytes_s / given["machine_net"],
        )
        assert made.machines < most + 2
        assert 1 <= made.parts <= min(made.machines, given["call_items"])


def test_more_hits_cost_less(plan: ModuleType) -> None:
    inputs = plan.read_inputs()
    plans = [plan.make_plan(inputs, queries_a_day=plan.QUERIES_A_DAY, hit_rate=rate) for rate in plan.HIT_RATES]
    for name in ("machines", "encode_cores", "cache_bytes", "usd_day", "kwh_day", "kg_day"):
        values = [getattr(made, name) for made in plans]
        assert values == sorted(values, reverse=True)
