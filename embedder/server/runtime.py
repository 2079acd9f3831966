"""What a started service consists of, and the gate that calls wait behind until it is there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from embedder.config import ServeSettings
from embedder.errors import Unavailable
from embedder.savings.ledger import Ledger
from embedder.server.accounting import SpaceAccount
from embedder.server.answer_desk import AnswerDesk
from embedder.server.spaces import ServedSpace, Spaces
from embedder_cache import SpaceKey, VectorCache
from embedder_cache.valkey_tier import ValkeyTier
from embedder_heads import HeadRuntime
from embedder_heads.index.library import IndexLibrary


@dataclass(frozen=True, slots=True)
class Runtime:
    """The objects behind a service that serves."""

    settings: ServeSettings
    spaces: Spaces
    cache: VectorCache
    heads: HeadRuntime
    indexes: IndexLibrary
    ledger: Ledger
    answers: AnswerDesk
    shared_cache: ValkeyTier | None = None
    started_at: float = field(default_factory=time.time)

    def erase(self, space: SpaceKey, hashes: bytes) -> int:
        """Erase contents from every tier; returns how many the fullest one held.

        Raises:
            TierUnavailable: the shared tier did not confirm it; this machine's has erased them.
        """
        erased = self.cache.delete_many(space, hashes)
        return erased if self.shared_cache is None else max(erased, self.shared_cache.delete_many(space, hashes))

    def account(self, space: ServedSpace) -> SpaceAccount:
        """Return where a space's usage is counted."""
        return SpaceAccount(self.ledger, space=space.name)


class RuntimeGate:
    """Holds the runtime once it is ready; until then, and while draining, calls are answered UNAVAILABLE."""

    def __init__(self) -> None:
        self._runtime: Runtime | None = None
        self._why_closed = "the service is starting: its encoder is not ready"

    def open(self, runtime: Runtime) -> None:
        """Let calls through."""
        self._runtime = runtime

    def close(self, why: str) -> None:
        """Refuse calls from now on."""
        self._why_closed = why
        self._runtime = None

    def get(self) -> Runtime:
        """Return the runtime.

        Raises:
            Unavailable: the service is starting or draining.
        """
        runtime = self._runtime
        if runtime is None:
            raise Unavailable(self._why_closed)
        return runtime
