"""What Retrieve and Answer can ask of the items: filters on metadata, and ranking again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; None means that there is no bound."""

    low: float | None = None
    high: float | None = None


FilterValue = str | int | float | Range | Sequence[str] | Sequence[int] | Sequence[float]
"""One value, several of one type of which one must fit, or a range of numbers."""


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
