"""A number that says what it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Basis(StrEnum):
    """How a figure is known, the surest first."""

    MEASURED = "measured"
    ESTIMATED = "estimated"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Figure:
    """A value with its unit and where it comes from.

    Attributes:
        value: in `unit`.
        basis: read from a meter; computed from measured figures and a stated model; or taken on trust.
        unit: such as `s`, `J`, `USD`, `gCO2e` or `1`.
        source: the meter, formula, data file or publication.
        boundary: what is counted in and what is left out, in words; empty where the source says it.
    """

    value: float
    basis: Basis
    unit: str
    source: str
    boundary: str = ""

    def times(self, factor: float, **changes: str) -> Figure:
        """Return this figure multiplied by an exact number, with its other fields kept or changed."""
        return replace(self, value=self.value * factor, **changes)  # type: ignore[arg-type]  # str fields alone


def least_sure(bases: Iterable[Basis]) -> Basis:
    """Return the basis of a figure that was computed from others: never surer than the least sure of them."""
    order = list(Basis)
    return order[max((order.index(basis) for basis in bases), default=0)]
