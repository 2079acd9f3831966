"""What sharing would save: a trace of (time, content, task) through a cache of a given size, and the formula over it."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from embedder.savings.figures import Basis, Figure
from embedder.savings.formula import Formula, HeadTerm


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One request of a trace.

    Attributes:
        time: seconds, of any origin.
        content: the content's id.
        task: which task asks.
    """

    time: float
    content: str
    task: str


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds that one content takes.

    Attributes:
        encode: one encode on the shared road.
        lookup: one look-up.
        head: one head.
        special: one content for a task by itself.
    """

    encode: Figure
    lookup: Figure
    head: Figure
    special: Figure


@dataclass(frozen=True, slots=True)
class Replay:
    """What a trace came to.

    Attributes:
        requests: rows of the trace.
        contents: distinct contents.
        encodes: requests that no cached vector answered.
        evictions: vectors that had to go.
        formula: the formula with the trace's counts and the given costs.
    """

    requests: int
    contents: int
    encodes: int
    evictions: int
    formula: Formula

    @property
    def hit_rate(self) -> float:
        """Share of requests that a cached vector answered."""
        return self.formula.hit_rate


def replay_trace(rows: Iterable[TraceRow], *, cache_bytes: int, bytes_per_vector: int, costs: Costs) -> Replay:
    """Send a trace, in the order of its rows, through a cache that drops what was used longest ago.

    Args:
        cache_bytes: the cache's size; 0 keeps nothing.
        bytes_per_vector: what one vector takes on disk, its record and index included.
    """
    room = cache_bytes // bytes_per_vector
    held: OrderedDict[str, None] = OrderedDict()
    seen: set[str] = set()
    asked: Counter[str] = Counter()
    encodes = evictions = 0
    for row in rows:
        asked[row.task] += 1
        seen.add(row.content)
        if row.content in held:
            held.move_to_end(row.content)
            continue
        encodes += 1
        if not room:
            continue
        held[row.content] = None
        if len(held) > room:
            held.popitem(last=False)
            evictions += 1
    requests = asked.total()
    formula = Formula(
        contents=requests,
        hit_rate=1 - encodes / requests if requests else 0.0,
        encode_s=costs.encode,
        lookup_s=costs.lookup,
        heads=tuple(HeadTerm(task, count, costs.head.value, costs.special) for task, count in sorted(asked.items())),
    )
    return Replay(requests=requests, contents=len(seen), encodes=encodes, evictions=evictions, formula=formula)


def given_seconds(value: float, what: str) -> Figure:
    """Return a cost that the user entered."""
    return Figure(value, Basis.ASSUMED, "s", f"{what}, as entered")
