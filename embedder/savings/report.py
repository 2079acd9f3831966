"""The savings report: what sharing cost, what the alternative would have cost, and whether formula and ledger agree."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedder.savings.figures import Figure
from embedder.savings.formula import Formula, SensitivityPoint
from embedder.savings.ledger_file import Run, Uptime
from embedder.savings.roads import Rates, Road
from embedder.savings.usage import Counts, Slice

_NS = 1e-9
_AGREE_WITHIN = 0.001

ASSUMPTIONS = (
    "device time spent is measured around each forward pass, and divided over its contents by tokens or images: on a processor it is "
    "the CPU time of all cores together, so that neighbours on the machine do not count; on a GPU, the time between CUDA events",
    "the alternative, where a head is set to the same encoder, is estimated: every call of every task, at the measured device seconds of a "
    "batch of its size (means over the last batches); tokens are estimated from a text's length, a content asked "
    "by hash counts as a mean text",
    "the alternative keeps nothing: each task computes each content each time that it asks; a task with a cache of its own would cost less",
    "look-ups and heads are measured and charged to the shared road; the alternative is charged neither heads nor idle time nor storage",
    "distinct contents are counted by UTC day: exact up to 65,536 a group and day, estimated within about 0.8% beyond",
)


class GroupBy(StrEnum):
    """What the rows of a report are made by."""

    NONE = "none"
    TASK = "task"
    CLIENT = "client"
    SPACE = "space"
    LANE = "lane"
    TENANT = "tenant"
    HEAD = "head"


@dataclass(frozen=True, slots=True)
class SavingsQuery:
    """What a report is asked for.

    Attributes:
        start: first second, Unix time, to the minute.
        end: Unix time after the last second; None means now.
        group_by: what rows are made by.
        task: only this task; empty means all; likewise the others.
    """

    start: int = 0
    end: int | None = None
    group_by: GroupBy = GroupBy.TASK
    task: str = ""
    client: str = ""
    tenant: str = ""
    head: str = ""

    @property
    def part(self) -> Slice:
        """The part of the ledger that is meant."""
        return Slice(
            start=self.start, end=self.end, task=self.task, client=self.client, tenant=self.tenant, head=self.head
        )


@dataclass(frozen=True, slots=True)
class SavingsRow:
    """Counters and figures of one group.

    Attributes:
        group: the group's name; empty for the total.
        counts: the ledger's counters.
        contents_unique: distinct contents among those asked.
        is_unique_exact: whether `contents_unique` is exact rather than estimated.
        shared: what the group's use cost on the shared road.
        overhead: its share, by contents asked, of what the service holds: device at rest, storage.
        alternative: what it would have cost with every task served by itself.
        saved: alternative less shared and overhead.
        sci_g: grams for each content asked, on the shared road with its overhead (ISO/IEC 21031); None where carbon is unknown.
    """

    group: str
    counts: Counts
    contents_unique: int
    is_unique_exact: bool
    shared: Road
    overhead: Road
    alternative: Road
    saved: Road
    sci_g: Figure | None = None

    @property
    def device_s(self) -> float:
        """Device seconds spent on encodes, measured."""
        return self.counts.device_ns * _NS

    @property
    def head_s(self) -> float:
        """Seconds spent on heads, measured."""
        return self.counts.head_ns * _NS

    @property
    def lookup_s(self) -> float:
        """Seconds spent on look-ups, measured."""
        return self.counts.lookup_ns * _NS

    @property
    def unshared_s(self) -> float:
        """Seconds of the alternative."""
        return self.alternative.seconds.value

    @property
    def saved_s(self) -> float:
        """Seconds saved: the alternative less what was spent, look-ups and heads charged; below zero when sharing cost more."""
        return self.saved.seconds.value


@dataclass(frozen=True, slots=True)
class Agreement:
    """The saving by the ledger's sums and by the formula; what is claimed is the smaller.

    Attributes:
        formula: the formula with its numbers.
        ledger_saved_s: seconds by the ledger: sums of what was measured.
        formula_saved_s: seconds by the formula: contents, hit rate and means.
    """

    formula: Formula
    ledger_saved_s: float
    formula_saved_s: float

    @property
    def saved_s(self) -> float:
        """Seconds that both give."""
        return min(self.ledger_saved_s, self.formula_saved_s)

    @property
    def difference(self) -> float:
        """How far they are apart, as a share of the larger cost on either road."""
        scale = max(self.formula.alternative_s, self.formula.shared_s)
        return abs(self.ledger_saved_s - self.formula_saved_s) / scale if scale else 0.0

    @property
    def is_agreed(self) -> bool:
        """Whether they are within 0.1% of each other."""
        return self.difference <= _AGREE_WITHIN


@dataclass(frozen=True, slots=True)
class SavingsReport:
    """What sharing saved over a range of time.

    Attributes:
        total: the whole range.
        rows: one for each group, largest saving first; their counters add up to the total's.
        start: Unix time of the first minute counted; 0 when nothing was.
        end: Unix time after the last minute counted; 0 when nothing was.
        agreement: the saving by formula and by ledger.
        uptime: how long the service ran in the range, and what it held.
        rates: what a second takes in energy, money and carbon.
        sensitivity: the saving at other hit rates and numbers of tasks.
        killed: runs that ended without a word: at most the second after each one's last beat was lost.
        notes: what this report could not know, in words.
        assumptions: what the figures rest on, in words.
    """

    total: SavingsRow
    rows: tuple[SavingsRow, ...]
    start: int
    end: int
    agreement: Agreement
    uptime: Uptime
    rates: Rates
    sensitivity: tuple[SensitivityPoint, ...] = ()
    killed: tuple[Run, ...] = ()
    notes: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ASSUMPTIONS
