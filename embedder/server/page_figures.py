"""All that the page shows: GetSavings' own answer, its course over time, and where a call's time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from embedder.errors import InvalidRequest
from embedder.savings.formula import Formula
from embedder.savings.ledger_file import LedgerFile
from embedder.savings.pricing import Pricing, TaskHead, merged, summed
from embedder.savings.report import GroupBy, SavingsQuery, SavingsReport
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage import Counts, Slice
from embedder.server.runtime import Runtime
from embedder.server.savings_messages import report_message
from embedder.telemetry import catalogue as metrics
from embedder.telemetry.quantiles import quantile
from embedder.telemetry.tally import Histogram, Snapshot

Figures = dict[str, Any]

_HOUR_S, _DAY_S = 3_600, 86_400
_SPANS_S: Mapping[str, int | None] = {
    "hour": _HOUR_S, "day": _DAY_S, "week": 7 * _DAY_S, "month": 30 * _DAY_S, "all": None,
}  # fmt: skip
_STEPS_S = (60, 300, 900, 1_800, _HOUR_S, 3 * _HOUR_S, 6 * _HOUR_S, _DAY_S, 7 * _DAY_S, 30 * _DAY_S, 365 * _DAY_S)
_MOST_STEPS = 60
# A step of time that ended this long ago is final: a record reaches the ledger's file within a second, or a few when the disk is slow.
_SETTLED_S = 600
_KEPT_STEPS = 1_000
_CURVE_POINTS = 33
_FEWEST_TASKS_SHOWN = 8
_PARTS = {
    "lookup": metrics.LOOKUP_SECONDS,
    "prepare": metrics.PREPARE_SECONDS,
    "queue": metrics.QUEUE_SECONDS,
    "encode": metrics.ENCODE_SECONDS,
    "store": metrics.STORE_SECONDS,
    "heads": metrics.HEADS_SECONDS,
}


class PageFigures:
    """Puts together what the page shows of a span of time."""

    def __init__(
        self, runtime: Callable[[], Runtime], tally: Callable[[], Snapshot], *, target: Callable[[], str]
    ) -> None:
        """Read a service.

        Args:
            runtime: its objects; raises Unavailable while it starts or drains.
            tally: what it has counted since it started.
            target: where it listens, for the example of a first call.
        """
        self._target = target
        self._runtime = runtime
        self._steps = StepUsage()
        self._tally = tally

    def read(self, span: str) -> Figures:
        """Return everything, as JSON takes it.

        Raises:
            InvalidRequest: there is no such span.
            Unavailable: the service starts or drains.
        """
        if span not in _SPANS_S:
            raise InvalidRequest(f"span={span!r}; known are {', '.join(_SPANS_S)}")
        runtime = self._runtime()
        now = int(time.time())
        length_s = _SPANS_S[span]
        start = 0 if length_s is None else (now - length_s) // 60 * 60
        maker = runtime.savings
        by_task = maker.make(SavingsQuery(start=start, group_by=GroupBy.TASK))
        by_tenant = maker.make(SavingsQuery(start=start, group_by=GroupBy.TENANT))
        answer = _as_json(by_task)
        answer["by_tenant"] = _as_json(by_tenant)["rows"]
        answer["service"] = _service(runtime, now) | {"target": self._target()}
        answer["span"] = {"name": span, "start": start, "end": now}
        answer["series"] = _series(maker, by_task, self._steps, start=start, now=now)
        answer["curve"] = _curve(by_task.agreement.formula)
        answer["times"] = _times(self._tally())
        return answer


class StepUsage:
    """Reads usage by task and head, step by step, and a step that is over only once. Thread-safe."""

    def __init__(self) -> None:
        self._settled: dict[tuple[int, int], dict[TaskHead, Counts]] = {}

    def read(self, ledger: LedgerFile, *, start: int, end: int) -> dict[TaskHead, Counts]:
        """Return what was used from `start` to `end`."""
        usage = self._settled.get((start, end))
        if usage is None:
            usage = merged(ledger.totals(Slice(start=start, end=end), by=("task", "head")))
            if end < time.time() - _SETTLED_S:
                if len(self._settled) >= _KEPT_STEPS:
                    self._settled.clear()
                self._settled[start, end] = usage
        return usage


def _as_json(report: SavingsReport) -> Figures:
    message = report_message(report)
    told: Figures = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return told


def _service(runtime: Runtime, now: int) -> Figures:
    space = runtime.spaces.resolve("")
    stats = runtime.cache.stats()
    return {
        "space": space.name,
        "model": space.info.model_id,
        "numerics": space.info.numerics,
        "device": space.info.device,
        "started_at": runtime.started_at,
        "now": now,
        "heads": len(runtime.heads.snapshot.served()),
        "cache": {"entries": stats.entries, "bytes": stats.file_bytes, "limit_bytes": stats.max_bytes},
    }


def _series(maker: ReportMaker, report: SavingsReport, steps: StepUsage, *, start: int, now: int) -> Figures:
    """Price each step of time by itself, with the whole span's rates; the steps' seconds add up to the span's."""
    first = max(start, report.start)
    last = max(report.end, first + 60)
    if start:  # a span that was asked for is shown whole, quiet hours included
        first, last = start, max(last, now // 60 * 60 + 60)
    step_s = next((step for step in _STEPS_S if (last - first) / step <= _MOST_STEPS), _STEPS_S[-1])
    pricing = Pricing(maker.plan, report.rates)
    points = []
    for at in range(first // step_s * step_s, last, step_s) if report.end else ():
        usage = steps.read(maker.ledger, start=max(at, start), end=at + step_s)
        counts = summed(usage.values())
        points.append(
            {
                "time": at,
                "asked": counts.asked,
                "cache": counts.cache_hits,
                "shared_cache": counts.shared_cache_hits,
                "in_flight": counts.in_flight_hits,
                "computed": counts.computed,
                "failed": counts.failures,
                "shared_s": pricing.shared(counts).seconds.value,
                "alternative_s": pricing.alternative(usage).seconds.value,
            }
        )
    return {"step_s": step_s, "points": points}


def _curve(formula: Formula) -> Figures:
    """Cost of one content by the number of tasks that ask for it, on either road."""
    encode_s, lookup_s, head_s = formula.encode_s.value, formula.lookup_s.value, formula.mean_head_s
    even = formula.break_even_tasks(hit_rate=0.0)
    most = max(_FEWEST_TASKS_SHOWN, 1.5 * formula.tasks, 1.5 * (even or 0.0))
    tasks = [most * place / (_CURVE_POINTS - 1) for place in range(_CURVE_POINTS)]
    return {
        "tasks": tasks,
        "shared_s": [(1 - formula.hit_rate) * encode_s + lookup_s + count * head_s for count in tasks],
        "uncached_s": [encode_s + lookup_s + count * head_s for count in tasks],
        "alternative_s": [count * formula.mean_special_s for count in tasks],
    }


def _times(snapshot: Snapshot) -> list[Figures]:
    """Where a call's time goes, over all spaces and lanes, since the service started."""
    found = []
    for part, metric in _PARTS.items():
        total = Histogram([0] * (len(metric.bounds) + 1))
        for (name, _), histogram in snapshot.histograms.items():
            if name == metric.name:
                total.counts = [one + two for one, two in zip(total.counts, histogram.counts, strict=True)]
        quantiles = {f"p{share * 100:g}_s": quantile(metric, total, share) for share in (0.5, 0.95, 0.99)}
        found.append({"part": part, "count": sum(total.counts), **quantiles})
    return found
