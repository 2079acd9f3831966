"""The savings ledger of a process that does not write it: usage goes to the keeper, added up, once a second."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from embedder.engine.transport.keeper_client import KeeperClient
from embedder.engine.transport.keeper_messages import KeeperKind
from embedder.engine.transport.usage_codec import pack_usage
from embedder.errors import Unavailable
from embedder.savings.usage import UsageRecord
from embedder.savings.usage_log import UsageLog

_NO_TOKEN = b""
_SYNC_TIMEOUT_S = 10.0


class RemoteLedger(UsageLog):
    """A ledger that is written through the keeper and read from the file. Thread-safe.

    What the keeper did not confirm is sent again: a keeper that dies between writing and confirming has it counted twice.
    """

    def __init__(self, path: Path, keeper: KeeperClient, *, cache_counts: Callable[[], dict[str, int]]) -> None:
        """Start to send.

        Args:
            path: the SQLite file.
            keeper: the way to the process that writes it.
            cache_counts: what this process has looked up, to be told along; the keeper adds it up for all.
        """
        self._keeper = keeper
        self._cache_counts = cache_counts
        self._unconfirmed: deque[Future[Any]] = deque(maxlen=1)
        super().__init__(path)
        keeper.on_flush(self._send_all)
        self._start()

    def _settle(self) -> None:
        """Let every process send its usage, and the keeper write it.

        Raises:
            Unavailable: the keeper is restarting.
        """
        try:
            self._keeper.request(KeeperKind.SYNC).result(_SYNC_TIMEOUT_S)
        except TimeoutError as error:
            raise Unavailable("the process that writes the savings ledger did not answer in time") from error

    def close(self) -> None:
        """Send what is left, wait until it is written, and stop the thread."""
        super().close()
        for future in self._unconfirmed:
            future.exception(_SYNC_TIMEOUT_S)

    def _write(self, records: list[UsageRecord]) -> None:
        if records:
            self._send(records, _NO_TOKEN)

    def _send_all(self, token: bytes) -> None:
        with self._write_lock:
            self._send(self._drain(), token)

    def _send(self, records: list[UsageRecord], token: bytes) -> None:
        counts = json.dumps(self._cache_counts()).encode()
        sent = self._keeper.request(KeeperKind.USAGE, token, counts, *pack_usage(records))
        self._unconfirmed.append(sent)
        sent.add_done_callback(
            lambda future: self._pending.extendleft(reversed(records)) if future.exception() else None
        )
