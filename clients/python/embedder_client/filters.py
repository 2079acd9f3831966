"""What can be asked of an index's items: filters on metadata, and ranking again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class NumberRange:
    """A filter: numbers from `low` to `high`, both included; None does not bind."""

    low: float | None = None
    high: float | None = None


FilterLike = str | float | Sequence[str] | Sequence[float] | NumberRange
"""What a metadata field must be: one value, one of several of a type, or in a range."""


@dataclass(frozen=True)
class Rerank:
    """Ranks what was found again, before the best are returned.

    Attributes:
        candidates: items to find and rank again; 0 means five times `top_k`.
        head: the head whose score on an item's stored vector ranks it; empty ranks by the exact cosine.
        label: the label of `head` that counts; may be left out when the head has one.
    """

    candidates: int = 0
    head: str = ""
    label: str = ""
