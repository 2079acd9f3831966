"""What an encode costs: device seconds of a batch by its units (tokens, images), learned from measured batches."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from embedder.engine.contents import CallSize, ContentItem
from embedder.engine.cost_curve import CostCurve
from embedder_client.content_hash import Modality

_SPECIAL_TOKENS = 2
_BYTES_PER_TOKEN_AT_START = 4.5
# A text counts half after this many later ones, so that the length of a token is a mean over many, not over the last few.
_TOKEN_DECAY = 0.5 ** (1 / 5_000.0)
_TOKENS_AT_START = 100.0
# A batch counts half after this many later ones: the last minute or so decides, one outlier does not.
_HALF_LIFE_BATCHES = 200.0
_DECAY = 0.5 ** (1 / _HALF_LIFE_BATCHES)
# What the machine's other work does to a batch changes within a second; admission follows it.
_PACE_LEARNING_RATE = 0.2
_SLOWEST_PACE = 8.0


@dataclass(frozen=True, slots=True)
class CostLine:
    """What batches of one medium cost.

    Attributes:
        fixed_s: device seconds of a batch beside its units.
        rate_s: device seconds of a unit.
        units_per_item: units of a mean content.
    """

    fixed_s: float
    rate_s: float
    units_per_item: float


@dataclass(slots=True)
class _Line:
    """A decayed least-squares line: seconds = fixed + rate x units, neither below zero.

    Weighted by 1 / units squared, since a disturbed batch errs in proportion to its length: unweighted, a few slow long batches
    decided what a short one costs.
    """

    batches: float = 0.0
    inverse: float = 0.0
    inverse_squared: float = 0.0
    seconds_by_units: float = 0.0
    seconds_by_units_squared: float = 0.0
    units: float = 0.0
    items: float = 0.0
    fixed_s: float = 0.0
    rate_s: float = 0.0

    def learn(self, *, seconds: float, units: float, items: int) -> None:
        self.batches = self.batches * _DECAY + 1
        self.inverse = self.inverse * _DECAY + 1 / units
        self.inverse_squared = self.inverse_squared * _DECAY + 1 / units**2
        self.seconds_by_units = self.seconds_by_units * _DECAY + seconds / units
        self.seconds_by_units_squared = self.seconds_by_units_squared * _DECAY + seconds / units**2
        self.units = self.units * _DECAY + units
        self.items = self.items * _DECAY + items
        self._solve()

    def _solve(self) -> None:
        spread = self.batches * self.inverse_squared - self.inverse**2
        if spread > 1e-6 * self.inverse**2:
            self.fixed_s = (
                self.batches * self.seconds_by_units_squared - self.inverse * self.seconds_by_units
            ) / spread
            self.rate_s = (self.seconds_by_units - self.fixed_s * self.inverse) / self.batches
            if self.fixed_s >= 0 and self.rate_s >= 0:
                return
        # All batches of one size, or nothing but noise between them: a line through the origin.
        self.fixed_s, self.rate_s = 0.0, self.seconds_by_units / self.batches

    def seconds(self, units: float) -> float:
        return self.fixed_s + self.rate_s * units if self.batches else 0.0

    @property
    def units_per_item(self) -> float:
        return self.units / self.items if self.items else 1.0


class CostModel:
    """Estimates the device time of contents before they are tokenized or decoded.

    A text's units are its tokens, cut at the encoder's limit; an image's unit is one. Thread-safe.
    """

    def __init__(self, *, max_tokens: int, max_batch_units: Mapping[Modality, float]) -> None:
        self._max_tokens = max_tokens
        self._max_batch_units = dict(max_batch_units)
        self._lines = {modality: _Line() for modality in max_batch_units}
        self._curves = {modality: CostCurve() for modality in max_batch_units}
        self._tokens_seen = _TOKENS_AT_START
        self._bytes_seen = _TOKENS_AT_START * _BYTES_PER_TOKEN_AT_START
        self._bytes_per_token = _BYTES_PER_TOKEN_AT_START
        self._pace = 1.0
        self._lock = threading.Lock()

    def learn_batch(
        self, modality: Modality, *, seconds: float, units: float, items: int, device_s: float | None = None
    ) -> None:
        """Learn from one measured batch on the device.

        Args:
            seconds: wall time, by which calls are admitted.
            device_s: the meter's device seconds, by which the savings are told; None takes the wall time.
        """
        with self._lock:
            expected_s = self._lines[modality].seconds(units)
            if expected_s > 0:
                pace = min(seconds / expected_s, _SLOWEST_PACE)
                self._pace += _PACE_LEARNING_RATE * (pace - self._pace)
            self._lines[modality].learn(seconds=seconds, units=units, items=items)
            self._curves[modality].learn(seconds=seconds if device_s is None else device_s, units=units)

    def learn_tokens(self, *, text_bytes: int, tokens: int) -> None:
        """Learn how long a token is from a text that was not cut; `tokens` counts the special ones, which are of no length."""
        if tokens <= _SPECIAL_TOKENS:
            return
        with self._lock:
            self._tokens_seen = self._tokens_seen * _TOKEN_DECAY + tokens - _SPECIAL_TOKENS
            self._bytes_seen = self._bytes_seen * _TOKEN_DECAY + text_bytes
            self._bytes_per_token = self._bytes_seen / self._tokens_seen

    def lines(self) -> dict[Modality, CostLine]:
        """Tell what was learned, by medium."""
        with self._lock:
            return {
                modality: CostLine(line.fixed_s, line.rate_s, line.units_per_item)
                for modality, line in self._lines.items()
            }

    @property
    def pace(self) -> float:
        """How long the last batches took beside what they should have: 1 is as estimated."""
        return self._pace

    def adopt(self, lines: Mapping[Modality, CostLine], *, pace: float) -> None:
        """Take over what the model of another process learned."""
        with self._lock:
            self._pace = pace
            for modality, line in lines.items():
                own = self._lines[modality]
                own.fixed_s, own.rate_s, own.batches = line.fixed_s, line.rate_s, 1.0
                own.units, own.items = line.units_per_item, 1.0

    def call_seconds(self, size: CallSize) -> float:
        """Estimate the device seconds of one call's contents, had they been encoded for this call alone.

        Each medium costs what as many batches as it needs cost, by their sizes. A content that is known by its hash alone counts
        as a mean text.
        """
        tokens = size.unknown * self._lines[Modality.TEXT].units_per_item
        longest = (self._max_tokens - _SPECIAL_TOKENS) * self._bytes_per_token
        # Every hit passes here: nothing is called for a single text.
        length = sum([length if length < longest else longest for length in size.text_lengths])
        tokens += _SPECIAL_TOKENS * len(size.text_lengths) + length / self._bytes_per_token
        return self._batch_seconds(Modality.TEXT, tokens) + self._batch_seconds(Modality.IMAGE, size.images)

    def shares(self, items: Sequence[ContentItem]) -> list[float]:
        """Estimate each content's device seconds in a full batch, at the last batches' pace: what waits for the device under load."""
        pace = self._pace
        return [pace * self._share(item) for item in items]

    def _share(self, item: ContentItem) -> float:
        modality = item.modality if item.modality in self._lines else Modality.TEXT
        line = self._lines[modality]
        if modality is Modality.TEXT and isinstance(item.payload, str):
            units = min(_SPECIAL_TOKENS + len(item.payload) / self._bytes_per_token, self._max_tokens)
        else:
            units = line.units_per_item
        return (line.rate_s + line.fixed_s / self._max_batch_units[modality]) * units

    def batch_overhead_s(self) -> float:
        """Estimate the device seconds that a batch costs beside its contents."""
        return self._pace * max(line.fixed_s for line in self._lines.values())

    def batch_seconds(self, modality: Modality, units: float) -> float:
        """Estimate the device seconds of one batch, at the last batches' pace."""
        return self._pace * self._lines[modality].seconds(units)

    def _batch_seconds(self, modality: Modality, units: float) -> float:
        most, curve = self._max_batch_units[modality], self._curves[modality]
        if units <= most:
            return curve.seconds(units)
        full = math.floor(units / most)
        return full * curve.seconds(most) + curve.seconds(units - full * most)
