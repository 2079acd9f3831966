"""What an encode costs: device seconds per unit (token, image), learned from measured batches."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from embedder.engine.contents import ContentItem
from embedder_client.content_hash import Modality

# Weight of one more unit against what was learned before: batches of the last few seconds decide, one outlier does not.
_HALF_LIFE_UNITS = {Modality.TEXT: 50_000.0, Modality.IMAGE: 500.0}
_SPECIAL_TOKENS = 2
_BYTES_PER_TOKEN_AT_START = 4.5


@dataclass(slots=True)
class _Rate:
    """A decayed mean of seconds per unit."""

    seconds: float = 0.0
    units: float = 0.0

    def learn(self, seconds: float, units: float, half_life: float) -> None:
        decay = 0.5 ** (units / half_life)
        self.seconds = self.seconds * decay + seconds
        self.units = self.units * decay + units

    @property
    def value(self) -> float:
        return self.seconds / self.units if self.units else 0.0


class CostModel:
    """Estimates the device time of contents before they are tokenized or decoded.

    A text's units are its tokens, cut at the encoder's limit; an image's unit is one. Thread-safe.
    """

    def __init__(self, *, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._lock = threading.Lock()
        self._seconds = {modality: _Rate() for modality in _HALF_LIFE_UNITS}
        self._bytes_per_token = _BYTES_PER_TOKEN_AT_START
        self._mean_item_seconds = _Rate()

    def learn_batch(self, modality: Modality, *, seconds: float, units: float, items: int) -> None:
        """Learn from one measured batch on the device."""
        with self._lock:
            self._seconds[modality].learn(seconds, units, _HALF_LIFE_UNITS[modality])
            self._mean_item_seconds.learn(seconds, items, 1_000.0)

    def learn_tokens(self, *, text_bytes: int, tokens: int) -> None:
        """Learn how long a token is from texts that were not cut."""
        if tokens > 0:
            with self._lock:
                self._bytes_per_token += 0.05 * (text_bytes / tokens - self._bytes_per_token)

    def units(self, item: ContentItem) -> float:
        """Estimate a content's units from its length; 1 for an image; 0 if only its hash is known."""
        if isinstance(item.payload, str):
            # len() counts characters, not bytes: near enough for an estimate, and free.
            return min(self._max_tokens, _SPECIAL_TOKENS + len(item.payload) / self._bytes_per_token)
        return 0.0 if item.payload is None else 1.0

    def seconds(self, modality: Modality, units: float) -> float:
        """Estimate the device seconds of `units` of a medium."""
        return self._seconds[modality].value * units

    def item_seconds(self, item: ContentItem) -> float:
        """Estimate the device seconds of one content; by its hash alone, those of a mean content."""
        if item.modality is None or item.modality not in self._seconds:
            return self._mean_item_seconds.value
        return self._seconds[item.modality].value * self.units(item)
