"""The savings report: cost per inference x contents x tasks, from the ledger's counters."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from embedder.savings.distinct import DistinctCounter
from embedder.savings.ledger import Ledger
from embedder.savings.usage import Counts, Group

_NS = 1e-9

ASSUMPTIONS = (
    "device time spent is measured: wall time of each forward pass on the device, divided over its contents by tokens or images",
    "device time unshared is estimated: every call of every task, at the measured device seconds of a batch and of a token or image "
    "(least squares over the last batches); tokens are estimated from a text's length, a content asked by hash counts as a mean text",
    "a head's time is measured on the CPU and charged to the shared road; the unshared road is charged no head time",
    "the unshared road is the same encoder run once for each task, with the same batching; a smaller model made for one task may cost less",
    "distinct contents are counted by UTC day: exact up to 65,536 a group and day, estimated within about 0.8% beyond",
)


class GroupBy(StrEnum):
    """What the rows of a report are made by."""

    NONE = "none"
    TASK = "task"
    CLIENT = "client"
    SPACE = "space"
    LANE = "lane"


@dataclass(frozen=True, slots=True)
class SavingsQuery:
    """What a report is asked for.

    Attributes:
        start: first second, Unix time, to the minute.
        end: Unix time after the last second; None means now.
        group_by: what rows are made by.
        task: only this task; empty means all.
        client: only this client; empty means all.
    """

    start: int = 0
    end: int | None = None
    group_by: GroupBy = GroupBy.TASK
    task: str = ""
    client: str = ""


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """Counters and figures of one group.

    Attributes:
        group: the group's name; empty for the total.
        counts: the ledger's counters.
        contents_unique: distinct contents among those asked.
        is_unique_exact: whether `contents_unique` is exact rather than estimated.
    """

    group: str
    counts: Counts
    contents_unique: int
    is_unique_exact: bool

    @property
    def device_s(self) -> float:
        """Device seconds spent on encodes, measured."""
        return self.counts.device_ns * _NS

    @property
    def head_s(self) -> float:
        """Seconds spent on heads, measured."""
        return self.counts.head_ns * _NS

    @property
    def unshared_s(self) -> float:
        """Device seconds had every task encoded for itself, estimated."""
        return self.counts.unshared_ns * _NS

    @property
    def saved_s(self) -> float:
        """Seconds saved: unshared less spent, heads charged; below zero when sharing cost more."""
        return self.unshared_s - self.device_s - self.head_s


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """What sharing saved over a range of time.

    Attributes:
        total: the whole range.
        rows: one for each group, largest saving first; their counters add up to the total's.
        start: Unix time of the first minute counted; 0 when nothing was.
        end: Unix time after the last minute counted; 0 when nothing was.
    """

    total: SavingsRow
    rows: tuple[SavingsRow, ...]
    start: int
    end: int
    assumptions: tuple[str, ...] = ASSUMPTIONS


_GROUP_NAMES: Mapping[GroupBy, Callable[[Group], str]] = {
    GroupBy.TASK: lambda group: group.task,
    GroupBy.CLIENT: lambda group: group.client,
    GroupBy.SPACE: lambda group: group.space,
    GroupBy.LANE: lambda group: group.lane,
}


def make_report(ledger: Ledger, query: SavingsQuery) -> SavingsReport:
    """Add the ledger's counters up."""
    name_of = _GROUP_NAMES.get(query.group_by)
    counts: dict[str, Counts] = defaultdict(Counts)
    distinct: dict[str, DistinctCounter] = defaultdict(DistinctCounter)
    total, all_distinct = Counts(), DistinctCounter()
    minutes: set[int] = set()
    for row in ledger.rows(start=query.start, end=query.end):
        if _is_asked(row.group, query):
            total += row.counts
            minutes.add(row.minute)
            if name_of:
                counts[name_of(row.group)] += row.counts
    for group, counter in ledger.distinct(start=query.start, end=query.end):
        if _is_asked(group, query):
            all_distinct.merge(counter)
            if name_of:
                distinct[name_of(group)].merge(counter)
    rows = [_row(name, counts[name], distinct[name]) for name in counts]
    return SavingsReport(
        total=_row("", total, all_distinct),
        rows=tuple(sorted(rows, key=lambda row: (-row.saved_s, row.group))),
        start=min(minutes, default=0),
        end=max(minutes) + 60 if minutes else 0,
    )


def _is_asked(group: Group, query: SavingsQuery) -> bool:
    return query.task in ("", group.task) and query.client in ("", group.client)


def _row(name: str, counts: Counts, distinct: DistinctCounter) -> SavingsRow:
    return SavingsRow(group=name, counts=counts, contents_unique=distinct.count(), is_unique_exact=distinct.is_exact)
