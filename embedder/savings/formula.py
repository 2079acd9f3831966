"""The formula: cost per inference x contents x tasks, on the shared road and on the alternative, with its break-even."""

from __future__ import annotations

from dataclasses import dataclass

from embedder.savings.figures import Figure

SHARED = "contents x [(1 - h) x C_encode + C_lookup] + sum over heads of asked x C_head"
ALTERNATIVE = "sum over heads of asked x C_special"
_HIT_RATES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99)
_TASKS = (1, 2, 4, 7, 8, 16, 32, 64, 125)


@dataclass(frozen=True, slots=True)
class HeadTerm:
    """One head's, or one task's, part of the sums.

    Attributes:
        head: the head; the task where no head was asked.
        asked: contents that it was asked for, failed ones left out.
        head_s: seconds of the head for one content.
        special_s: seconds of one content, were the task served by itself.
    """

    head: str
    asked: int
    head_s: float
    special_s: Figure


@dataclass(frozen=True, slots=True)
class Formula:
    """The formula with its numbers put in.

    Attributes:
        contents: contents that were looked up, failed ones included.
        hit_rate: share of them that was answered without a computation for them, by what the callers were told.
        encode_s: device seconds of one encode.
        lookup_s: seconds of one look-up.
        heads: the terms of the sums.
    """

    contents: int
    hit_rate: float
    encode_s: Figure
    lookup_s: Figure
    heads: tuple[HeadTerm, ...]

    @property
    def shared_s(self) -> float:
        """Seconds of the shared road."""
        lookups = self.contents * ((1 - self.hit_rate) * self.encode_s.value + self.lookup_s.value)
        return lookups + sum(term.asked * term.head_s for term in self.heads)

    @property
    def alternative_s(self) -> float:
        """Seconds had every task been served by itself."""
        return sum(term.asked * term.special_s.value for term in self.heads)

    @property
    def saved_s(self) -> float:
        """The difference; below zero when sharing cost more."""
        return self.alternative_s - self.shared_s

    @property
    def tasks(self) -> float:
        """Tasks that asked for each content that was looked up, on average."""
        return sum(term.asked for term in self.heads) / self.contents if self.contents else 0.0

    @property
    def mean_head_s(self) -> float:
        """Seconds of a head for one content, on average over what was asked."""
        asked = sum(term.asked for term in self.heads)
        return sum(term.asked * term.head_s for term in self.heads) / asked if asked else 0.0

    @property
    def mean_special_s(self) -> float:
        """Seconds of one content for a task by itself, on average over what was asked."""
        asked = sum(term.asked for term in self.heads)
        return self.alternative_s / asked if asked else 0.0

    def saved_share(self, *, hit_rate: float, tasks: float) -> float | None:
        """Return the share of the alternative's cost that is saved at another hit rate and number of tasks for each content."""
        alternative = tasks * self.mean_special_s
        if not alternative:
            return None
        shared = (1 - hit_rate) * self.encode_s.value + self.lookup_s.value + tasks * self.mean_head_s
        return 1 - shared / alternative

    def break_even_tasks(self, *, hit_rate: float) -> float | None:
        """Return from how many tasks for each content sharing wins at a hit rate; None when it never does."""
        margin = self.mean_special_s - self.mean_head_s
        if margin <= 0:
            return None
        return ((1 - hit_rate) * self.encode_s.value + self.lookup_s.value) / margin

    def break_even_hit_rate(self, *, tasks: float) -> float | None:
        """Return from which hit rate sharing wins with so many tasks for each content: 0 is always, None is never."""
        spare = tasks * (self.mean_special_s - self.mean_head_s) - self.lookup_s.value
        if spare < 0 or not self.encode_s.value:
            return None
        return max(0.0, 1 - spare / self.encode_s.value)


@dataclass(frozen=True, slots=True)
class SensitivityPoint:
    """What would be saved in other circumstances.

    Attributes:
        hit_rate: share of look-ups that need no computation.
        tasks: tasks that ask for each content.
        saved_share: of the alternative's cost; below zero when sharing costs more.
    """

    hit_rate: float
    tasks: int
    saved_share: float


def sensitivity(formula: Formula) -> tuple[SensitivityPoint, ...]:
    """Return the saving over a grid of hit rates and numbers of tasks, at the formula's costs; empty without any."""
    points = [(rate, tasks, formula.saved_share(hit_rate=rate, tasks=tasks)) for rate in _HIT_RATES for tasks in _TASKS]
    return tuple(SensitivityPoint(rate, tasks, share) for rate, tasks, share in points if share is not None)
