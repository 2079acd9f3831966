"""Tells the keeper once a second what this process has counted, and asks it what the others have."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import structlog

from embedder.config import ServeSettings
from embedder.engine.transport.keeper_client import KeeperClient, KeeperRefused
from embedder.engine.transport.keeper_messages import KeeperKind
from embedder.errors import Unavailable
from embedder.telemetry.elsewhere import pack_counts, unpack_counts
from embedder.telemetry.tally import Snapshot

_log = structlog.get_logger(__name__)

_INTERVAL_S = 1.0
_ANSWER_TIMEOUT_S = 2.0


class CountsFeed:
    """Sends counts in a thread, from its start until it is left; what was counted last is sent then."""

    def __init__(self, keeper: KeeperClient, counted: Callable[[], Snapshot]) -> None:
        self._keeper = keeper
        self._counted = counted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="counts", daemon=True)

    def __enter__(self) -> CountsFeed:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        # Of a keeper that is away nothing is heard, and nothing needs to be: a second later the counts are sent again.
        with suppress(Unavailable, KeeperRefused, TimeoutError):
            self._send().result(_ANSWER_TIMEOUT_S)

    def _run(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            self._send()

    def _send(self) -> Future[Any]:
        return self._keeper.request(KeeperKind.COUNTS, pack_counts(self._counted()))


def counted_elsewhere(keeper: KeeperClient) -> Snapshot:
    """Return what the other processes of the service have counted, a second old at most; nothing while the keeper restarts."""
    try:
        return unpack_counts(keeper.request(KeeperKind.ALL_COUNTS).result(_ANSWER_TIMEOUT_S))
    except (Unavailable, KeeperRefused, TimeoutError) as error:
        _log.debug("the other processes' counts are not known", error=str(error))
        return Snapshot()


def is_counted(settings: ServeSettings) -> bool:
    """Whether anybody reads what is counted."""
    return settings.metrics_address is not None or settings.dashboard
