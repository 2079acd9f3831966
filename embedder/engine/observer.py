"""Who watches the engine: told of each call and of each batch, once; the default watches nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from embedder.engine.contents import EmbedOptions, EmbedOutcome

if TYPE_CHECKING:
    from embedder.engine.worker import EncodedBatch


class EngineObserver:
    """Is told what the engine did, in the thread that did it: a method returns at once, takes no lock and raises nothing."""

    def looked_up(self, options: EmbedOptions, *, contents: int, held: int, lookup_s: float) -> None:
        """Hear that a call that is traced asked the cache just now."""

    def answered(self, options: EmbedOptions, outcome: EmbedOutcome) -> None:
        """Hear that a call has all its rows."""

    def encoded(self, batch: EncodedBatch) -> None:
        """Hear that the device computed a batch; those who wait for it have not been answered yet."""

    def stored(self, *, items: int, store_s: float, failed: bool) -> None:
        """Hear that a batch's vectors are visible in the cache, or could not be stored."""
