"""What a started service consists of, and the gate that calls wait behind until it is there."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from embedder.config import ServeSettings
from embedder.engine.transport.remote_cache import RemoteCache
from embedder.errors import Unavailable
from embedder.savings.power import CallEnergy
from embedder.savings.report_maker import ReportMaker
from embedder.savings.usage_log import UsageLog
from embedder.server.accounting import SpaceAccount
from embedder.server.answer_desk import AnswerDesk
from embedder.server.spaces import ServedSpace, SpaceDirectory, Spaces
from embedder.server.uploads import Uploads
from embedder.telemetry.observer import ServiceObserver
from embedder_cache import VectorCache
from embedder_cache.valkey_tier import ValkeyTier
from embedder_heads import HeadRuntime
from embedder_heads.fusion.library import FusionLibrary
from embedder_heads.index.library import IndexLibrary


@dataclass(frozen=True, slots=True)
class Runtime:
    """The objects behind a service that serves."""

    settings: ServeSettings
    directory: SpaceDirectory
    cache: VectorCache | RemoteCache
    heads: HeadRuntime
    indexes: IndexLibrary
    ledger: UsageLog
    savings: ReportMaker
    call_energy: CallEnergy
    fusions: FusionLibrary
    uploads: Uploads
    observer: ServiceObserver
    answers: AnswerDesk
    shared_cache: ValkeyTier | None = None
    cache_id: str = ""
    started_at: float = field(default_factory=time.time)

    @property
    def spaces(self) -> Spaces:
        """The spaces at this moment; a call takes them once, so that its answer is of one state."""
        return self.directory.current

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

    @property
    def is_open(self) -> bool:
        """Whether calls go through."""
        return self._runtime is not None

    def peek(self) -> Runtime | None:
        """Return the runtime; None while the service starts or drains."""
        return self._runtime

    def get(self) -> Runtime:
        """Return the runtime.

        Raises:
            Unavailable: the service is starting or draining.
        """
        runtime = self._runtime
        if runtime is None:
            raise Unavailable(self._why_closed)
        return runtime
