"""Writes docs/scale.md: what 800 billion queries a day would take, from measured unit costs.

    python deploy/scale/plan.py                     print the page
    python deploy/scale/plan.py --write             write it; a test holds the two equal
    python deploy/scale/plan.py --hit-rate 0.97 --queries-a-day 5e9    one plan, in one line for each figure

Nothing here was run at that size. Each input says whether it was measured, published or assumed; what follows is arithmetic.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/scale.md"
RESULTS = ROOT / "benchmarks/results"
SAVINGS = ROOT / "embedder/savings/data"

QUERIES_A_DAY = 800e9
HIT_RATES = (0.0, 0.5, 0.8, 0.9, 0.95, 0.99, 0.999)
USUAL_HIT_RATE = 0.95
DAY_S = 86_400.0
_MOST_ROUNDS = 200


@dataclass(frozen=True)
class Input:
    """One input of the plan.

    Attributes:
        value: in `unit`.
        basis: measured, published, computed or assumed.
        source: where it comes from.
    """

    what: str
    value: float
    unit: str
    basis: str
    source: str


def _latest(benchmark: str) -> tuple[str, dict[str, Any]]:
    path = max(RESULTS.glob(f"{benchmark}-*.json"))
    return path.name, json.loads(path.read_text())


def _cell(result: dict[str, Any], column: str, *start: str) -> float:
    """Return a number of the row that begins with these words."""
    (row,) = [row for row in result["rows"] if tuple(row[: len(start)]) == start]
    return float(row[result["columns"].index(column)].replace(",", ""))


def read_inputs() -> dict[str, Input]:
    """Return the inputs by name."""
    hits_name, hits = _latest("hits")
    cache_name, cache = _latest("cache")
    text_name, text = _latest("encode_text")
    one_us, many_us = (_cell(hits, "CPU us", "ours", asks) for asks in ("one text", "256 texts"))
    cores = text["hardware"]["cores"]
    texts_s = _cell(text, "texts/s", "ours")
    vcpu = tomllib.loads((SAVINGS / "devices.toml").read_text())["devices"]["AWS vCPU"]
    grid = tomllib.loads((SAVINGS / "grid.toml").read_text())["regions"]["USA"]
    line = f"`{hits_name}`: a line through one text ({one_us:g} us) and 256 ({many_us:g} us)"
    multiray = "MultiRay, Meta's engineering blog, 18 Nov 2022"
    return {
        "peak_to_mean": Input("peak over mean", 20e6 / (QUERIES_A_DAY / DAY_S), "", "published", f"{multiray}: 20 million a second"),
        "item_us": Input("front-end, each content", (many_us - one_us) / 255, "us of a core", "measured", line),
        "call_us": Input("front-end, each call", one_us - (many_us - one_us) / 255, "us of a core", "measured", line),
        "encode_ms": Input(
            "encode of a text", 1e3 * cores / texts_s, "ms of a core", "measured",
            f"`{text_name}`: {texts_s:g} texts/s on {cores} cores, the default text encoder",
        ),
        "entry_bytes": Input("a cached vector", cache["keys"]["bytes_per_entry"], "bytes", "measured", f"`{cache_name}`: 384 float16, on disk"),
        "reply_bytes": Input("a query's hash and vector on the wire", 32 + 768, "bytes", "computed", "32-byte hash, 384 float16; framing left out"),
        "content_bytes": Input("a content that is not held, on the wire", 500, "bytes", "assumed", "a short text"),
        "tier_us": Input(
            "shared tier, each look-up", _cell(cache, "get 256 us each", "Valkey, Unix socket"), "us of a core", "measured",
            f"`{cache_name}`: batches of 256 over a Unix socket, one connection",
        ),
        "call_items": Input("contents in a call", 256, "", "assumed", "the client's `max_request_items`"),
        "kept_days": Input("a vector is kept", 7, "days", "assumed", "the shared tier's time to live"),
        "use": Input("processors' use at the peak", 0.6, "", "assumed", "head room for restarts and bursts"),
        "machine_cores": Input("cores of a machine", 64, "", "assumed", "a usual server"),
        "machine_bytes": Input("cache of a machine", 8e12, "bytes", "assumed", "one NVMe disk"),
        "machine_net": Input("network of a machine", 25e9 / 8, "bytes/s", "assumed", "25 Gbit/s"),
        "core_watts": Input("a busy core", vcpu["busy_watts"]["value"], "W", "published", vcpu["busy_watts"]["source"]),
        "pue": Input("what the building adds", 1.2, "times", "assumed", "power usage effectiveness"),
        "grid": Input("grid", grid["value"], "g CO2e/kWh", "published", f"{grid['source']}, USA, {grid['year']}"),
        "core_hour_usd": Input("a core", 0.04, "USD/h", "assumed", "order of a cloud's list price; enter your own"),
    }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """What some load takes.

    Attributes:
        peak_qps: queries a second at the peak.
        front_cores: of look-ups and wire, at the peak, with head room.
        encode_cores: of the encoder, likewise.
        cache_bytes: of everything that is kept.
        network_bytes_s: at the peak, in and out.
        machines: that hold all of it.
        parts: into how many a call is cut by homes.
        tier_cores: of a shared tier that is asked for everything that a machine misses.
        usd_day: for the machines.
        kwh_day: for the work at the mean load.
        kg_day: CO2e of that.
        bound_by: which resource sets the number of machines.
    """

    queries_a_day: float
    hit_rate: float
    peak_qps: float
    front_cores: float
    encode_cores: float
    cache_bytes: float
    network_bytes_s: float
    machines: int
    parts: float
    tier_cores: float
    usd_day: float
    kwh_day: float
    kg_day: float
    bound_by: str


def make_plan(inputs: dict[str, Input], *, queries_a_day: float, hit_rate: float) -> Plan:
    """Work a load out; the number of machines and the cut of calls hang on each other, so it goes round until both stand."""
    given = {name: one.value for name, one in inputs.items()}
    mean_qps = queries_a_day / DAY_S
    peak_qps = mean_qps * given["peak_to_mean"]
    misses = 1 - hit_rate
    encode_s = misses * given["encode_ms"] * 1e-3
    cache_bytes = misses * queries_a_day * given["kept_days"] * given["entry_bytes"]
    network = peak_qps * (given["reply_bytes"] + misses * given["content_bytes"])
    encode_cores = peak_qps * encode_s / given["use"]
    machines, parts, front_s = 1, 1.0, 0.0
    needs: dict[str, float] = {}
    for _ in range(_MOST_ROUNDS):
        items = given["call_items"]
        parts = machines * -math.expm1(items * math.log1p(-1 / machines)) if machines > 1 else 1.0
        front_s = 1e-6 * (given["item_us"] + given["call_us"] * parts / items)
        front_cores = peak_qps * front_s / given["use"]
        needs = {
            "encoder": encode_cores / given["machine_cores"],
            "front-end": front_cores / given["machine_cores"],
            "disk": cache_bytes / given["machine_bytes"],
            "network": network / given["machine_net"],
        }
        # The encoder and the front-end share a machine's cores.
        wanted = max(1, math.ceil(max(needs["encoder"] + needs["front-end"], needs["disk"], needs["network"])))
        if wanted == machines:
            break
        machines = wanted
    work_s = queries_a_day * (front_s + encode_s)
    kwh_day = work_s * given["core_watts"] * given["pue"] / 3.6e6
    return Plan(
        queries_a_day=queries_a_day,
        hit_rate=hit_rate,
        peak_qps=peak_qps,
        front_cores=front_cores,
        encode_cores=encode_cores,
        cache_bytes=cache_bytes,
        network_bytes_s=network,
        machines=machines,
        parts=parts,
        tier_cores=peak_qps * misses * given["tier_us"] * 1e-6 / given["use"],
        usd_day=machines * given["machine_cores"] * 24 * given["core_hour_usd"],
        kwh_day=kwh_day,
        kg_day=kwh_day * given["grid"] * 1e-3,
        bound_by=max(needs, key=lambda name: needs[name]),
    )


@dataclass(frozen=True)
class Limit:
    """Something that ends at some size.

    Attributes:
        what: what breaks, in words.
        is_over: whether a plan is beyond it.
        then: what is done about it.
    """

    what: str
    is_over: Callable[[Plan, dict[str, float]], bool]
    then: str


LIMITS = (
    Limit(
        "the encoder fills two cores, the machine that all was measured on",
        lambda plan, given: plan.encode_cores > 2,
        "more cores, or a GPU (not measured here): the look-ups are far from any limit",
    ),
    Limit(
        "one machine's cores",
        lambda plan, given: plan.encode_cores + plan.front_cores > given["machine_cores"],
        "replicas and a client with locality: docs/replicas.md",
    ),
    Limit(
        "one machine's disk",
        lambda plan, given: plan.cache_bytes > given["machine_bytes"],
        "replicas each hold their part; smaller vectors, or fewer days",
    ),
    Limit(
        "one machine's network",
        lambda plan, given: plan.network_bytes_s > given["machine_net"],
        "replicas; int8 or binary answers",
    ),
    Limit(
        "calls of 256 fall apart: fewer than 8 contents go to each replica, and the cost of a call is paid for each part",
        lambda plan, given: given["call_items"] / plan.parts < 8,
        "larger calls where the caller has them; cells of some replicas each, a caller bound to one by its kind of content",
    ),
    Limit(
        "the ring has over 100 replicas: shares differ by more than 11% (measured), and each client checks the health of each",
        lambda plan, given: plan.machines > 100,
        "cells; health from the orchestrator's endpoints in place of checks by each client",
    ),
    Limit(
        "a shared tier for every miss takes more than 64 cores",
        lambda plan, given: plan.tier_cores > 64,
        "ask it for a sample only, or for what is dear: an encode of a text costs about as little as asking far away",
    ),
    Limit(
        "over 1,000 machines: more nodes than a Valkey cluster is made for, and one operator's deployment",
        lambda plan, given: plan.machines > 1_000,
        "regions, each with its own cells and tier; only backfill crosses between them",
    ),
)


def _amount(value: float) -> str:
    """Write a number with three significant digits."""
    if value == 0:
        return "0"
    if value < 1_000:
        return f"{value:.3g}"
    return f"{float(f'{value:.3g}'):,.0f}"


def _bytes(value: float) -> str:
    for unit, size in (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{_amount(value / size)} {unit}"
    return f"{_amount(value)} B"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


def page(inputs: dict[str, Input]) -> str:
    """Return the page."""
    plans = [make_plan(inputs, queries_a_day=QUERIES_A_DAY, hit_rate=rate) for rate in HIT_RATES]
    usual = make_plan(inputs, queries_a_day=QUERIES_A_DAY, hit_rate=USUAL_HIT_RATE)
    none = plans[0]
    return f"""# Past one machine: 800 billion queries a day

Made by `python deploy/scale/plan.py --write`; a test holds the page and the program equal. MultiRay serves 800 billion queries a day, 20 million a second at the peak. What would that
take of this service? **Nothing of this size was run.** Below is arithmetic on the unit costs that were measured on a machine of 2 cores, and on assumptions that are named. The free
variable is the hit rate: it decides nearly everything. Texts alone, with the small default encoder, on processors: GPUs were not measured here, so no figure stands for them.

## Inputs

{
        _table(
            ["what", "value", "basis", "source"],
            [[one.what, f"{_amount(one.value)} {one.unit}".strip(), one.basis, one.source] for one in inputs.values()],
        )
    }

## What 800 billion a day take

{
        _table(
            [
                "hit rate",
                "machines",
                "bound by",
                "front-end cores",
                "encoder cores",
                "cache",
                "network at the peak",
                "USD a day",
                "MWh a day",
                "t CO2e a day",
            ],
            [
                [
                    f"{100 * plan.hit_rate:g}%",
                    f"{plan.machines:,}",
                    plan.bound_by,
                    _amount(plan.front_cores),
                    _amount(plan.encode_cores),
                    _bytes(plan.cache_bytes),
                    f"{_bytes(plan.network_bytes_s)}/s",
                    _amount(plan.usd_day),
                    _amount(plan.kwh_day / 1e3),
                    _amount(plan.kg_day / 1e3),
                ]
                for plan in plans
            ],
        )
    }

Machines are as assumed above: {_amount(inputs["machine_cores"].value)} cores, {
        _bytes(inputs["machine_bytes"].value)
    } of cache. Cores are for the peak, with head room; energy is for the mean load, of the cores that work alone; money is for
machines that stand there all day. The cache is what a week of misses leaves.

- With {100 * usual.hit_rate:g}% hits the bill is {usual.usd_day / none.usd_day:.0%} of that without a cache: {
        _amount(usual.usd_day)
    } against {_amount(none.usd_day)} USD a day.
- The last percents count most: 99% takes {plans[-2].machines / usual.machines:.0%} of the machines of {
        100 * usual.hit_rate:g}%.
- At {100 * HIT_RATES[-1]:g}% the front-end is what is paid for, and of that the cutting of calls: a call of {
        _amount(inputs["call_items"].value)
    } contents meets {_amount(plans[-1].parts)} of {plans[-1].machines:,} machines.

## What breaks first

At {100 * USUAL_HIT_RATE:g}% hits, by the power of ten.

{
        _table(
            [
                "queries a day",
                "machines",
                "cores",
                "cache",
                "network",
                "parts of a call",
                "what breaks here first",
                "what is done",
            ],
            _decades(inputs),
        )
    }

## Your own figures

```sh
python deploy/scale/plan.py --queries-a-day 5e9 --hit-rate 0.97
```

The hit rate is in the savings report; unit costs come from `python -m benchmarks.hits`, `benchmarks.cache` and `benchmarks.encode_text` with `--keep`, on your machine.
"""


def _decades(inputs: dict[str, Input]) -> list[list[str]]:
    given = {name: one.value for name, one in inputs.items()}
    rows = []
    broken: set[str] = set()
    for power in range(6, 13):
        plan = make_plan(inputs, queries_a_day=10.0**power, hit_rate=USUAL_HIT_RATE)
        new = [limit for limit in LIMITS if limit.what not in broken and limit.is_over(plan, given)]
        broken |= {limit.what for limit in new}
        rows.append(
            [
                f"10^{power}",
                f"{plan.machines:,}",
                _amount(plan.front_cores + plan.encode_cores),
                _bytes(plan.cache_bytes),
                f"{_bytes(plan.network_bytes_s)}/s",
                _amount(plan.parts),
                "; ".join(limit.what for limit in new) or "nothing",
                "; ".join(limit.then for limit in new),
            ]
        )
    return rows


def main() -> None:
    """Print the page, write it, or print one plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write docs/scale.md")
    parser.add_argument("--hit-rate", type=float, help="share of queries that a cache answers, 0 to 1")
    parser.add_argument("--queries-a-day", type=float, default=QUERIES_A_DAY)
    options = parser.parse_args()
    inputs = read_inputs()
    if options.hit_rate is not None:
        if not 0 <= options.hit_rate <= 1 or not options.queries_a_day > 0:
            parser.error(
                f"--hit-rate={options.hit_rate} must be 0 to 1, and --queries-a-day={options.queries_a_day} over 0"
            )
        plan = make_plan(inputs, queries_a_day=options.queries_a_day, hit_rate=options.hit_rate)
        for name, value in vars(plan).items():
            sys.stdout.write(f"{name:16} {value if isinstance(value, str) else _amount(value)}\n")
    elif options.write:
        PAGE.write_text(page(inputs))
    else:
        sys.stdout.write(page(inputs))


if __name__ == "__main__":
    main()
