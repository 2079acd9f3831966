"""Filters on metadata: what a caller asks for, checked against the type of the field before anything is searched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from embedder_heads.errors import QueryInvalid

Scalar = str | int | float | bool
MAX_VALUES = 10_000


@dataclass(frozen=True, slots=True)
class Range:
    """A filter: numbers from `low` to `high`, both included."""

    low: float = float("-inf")
    high: float = float("inf")


Filter = Scalar | Range | Sequence[Scalar]
"""One value, a range of numbers, or any of several values; a list of tags matches when one of its tags does."""


def make_filter(
    field: str,
    *,
    texts: Sequence[str] = (),
    numbers: Sequence[float] = (),
    low: float | None = None,
    high: float | None = None,
) -> Filter:
    """Make the filter that a call describes.

    Args:
        field: the metadata field, for errors.
        texts: any of these texts.
        numbers: any of these numbers.
        low: least number of a range.
        high: greatest number of a range.
    Raises:
        QueryInvalid: none or several of texts, numbers and a range are given, or a number is NaN.
    """
    ranged = low is not None or high is not None
    given = [name for name, is_set in (("texts", texts), ("numbers", numbers), ("range", ranged)) if is_set]
    if len(given) != 1:
        found = " and ".join(given) or "none of them"
        raise QueryInvalid(f"the filter on {field!r} gives {found}; it takes exactly one of texts, numbers and range")
    if len(texts) + len(numbers) > MAX_VALUES:
        raise QueryInvalid(f"the filter on {field!r} has {len(texts) + len(numbers)} values; the limit is {MAX_VALUES}")
    if any(math.isnan(number) for number in (*numbers, low or 0.0, high or 0.0)):
        raise QueryInvalid(f"the filter on {field!r} holds NaN")
    if not ranged:
        return tuple(texts) or tuple(numbers)
    bounds = Range(-math.inf if low is None else low, math.inf if high is None else high)
    if bounds.low > bounds.high:
        raise QueryInvalid(f"the filter on {field!r} runs from {bounds.low:g} to {bounds.high:g}; low is at most high")
    return bounds


def check_filter(field: str, wanted: Filter, *, is_number: bool) -> None:
    """Check a filter against its field's type; raises QueryInvalid when nothing could ever match."""
    if is_number:
        values = () if isinstance(wanted, Range) else several(wanted)
        if any(isinstance(value, str) for value in values):
            raise QueryInvalid(f"field {field!r} holds numbers; filter it by numbers or a range, not by {values[0]!r}")
    elif isinstance(wanted, Range) or any(not isinstance(value, str) for value in several(wanted)):
        given = "a range" if isinstance(wanted, Range) else f"{several(wanted)[0]!r}"
        raise QueryInvalid(f"field {field!r} holds texts; filter it by texts, not by {given}")


def several(wanted: Scalar | Sequence[Scalar]) -> Sequence[Scalar]:
    """Return a filter's values as a list of them."""
    return [wanted] if isinstance(wanted, str | int | float) else wanted
