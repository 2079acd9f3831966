"""Carbon by the Software Carbon Intensity specification (ISO/IEC 21031): (E x I + M) / R."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any
from urllib import error, request

from embedder.savings.figures import Basis, Figure
from embedder.savings.plan import GridFeed

JOULES_PER_KWH = 3.6e6
HOURS_PER_YEAR = 24 * 365.0
_G_PER_KG = 1_000.0
_MAX_ANSWER_BYTES = 1 << 20
_KEEP_S = 300.0


class GridUnreachable(Exception):
    """The live grid feed gave no number; the message says why."""


def operational_g(*, joules: float, g_per_kwh: float, pue: float = 1.0) -> float:
    """Return E x I: grams of CO2 equivalent of energy at the device, with what the building adds to it."""
    return joules / JOULES_PER_KWH * pue * g_per_kwh


def embodied_g(*, total_kg: float, hours: float, lifespan_years: float, share: float = 1.0) -> float:
    """Return M: the grams of a device's making that fall on some hours of its life, for the share of it that was reserved."""
    return total_kg * _G_PER_KG * hours / (lifespan_years * HOURS_PER_YEAR) * share


def sci(*, operational: float, embodied: float, units: float) -> float:
    """Return (E x I + M) / R: grams for each functional unit, which here is one content that one task asked for."""
    return (operational + embodied) / units


@dataclass
class LiveGrid:
    """Reads grid intensity from a feed, at most once in five minutes. Thread-safe."""

    feed: GridFeed
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _read_at: float = float("-inf")
    _figure: Figure | None = None

    def read(self) -> Figure:
        """Return the intensity now, in g/kWh.

        Raises:
            GridUnreachable: the feed did not answer, or its answer holds no number where it should.
        """
        with self._lock:
            if self._figure is None or time.monotonic() - self._read_at > _KEEP_S:
                self._figure, self._read_at = self._fetch(), time.monotonic()
            return self._figure

    def _fetch(self) -> Figure:
        feed = self.feed
        headers = {"accept": "application/json"}
        if feed.token_env:
            token = os.environ.get(feed.token_env)
            if not token:
                raise GridUnreachable(f"grid feed: the environment variable {feed.token_env} with its token is not set")
            headers[feed.token_header] = token
        try:
            with request.urlopen(request.Request(feed.url, headers=headers), timeout=feed.timeout_s) as answer:
                found: Any = json.loads(answer.read(_MAX_ANSWER_BYTES))
            for part in feed.field.split("."):
                found = found[int(part)] if isinstance(found, list) else found[part]
            value = float(found)
        except (OSError, error.URLError) as problem:
            raise GridUnreachable(f"grid feed {feed.url} can't be reached: {problem}") from problem
        except (ValueError, TypeError, KeyError, IndexError) as problem:
            raise GridUnreachable(f"grid feed {feed.url} has no number at '{feed.field}': {problem!r}") from problem
        if not 0 <= value < float("inf"):
            raise GridUnreachable(f"grid feed {feed.url} says {value} g/kWh, which is no intensity")
        return Figure(
            value, Basis.MEASURED, "gCO2e/kWh", f"live feed {feed.url}", "the feed's own; as of the report's making"
        )
