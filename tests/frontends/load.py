"""Calls of new texts under way on several front-ends at once, each counted when it is answered."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import grpc

from embedder_client.v1 import content_pb2, embedding_service_pb2, embedding_service_pb2_grpc

from .processes import Processes, wait_until

_IN_FLIGHT = 16
_BACK_OFF_S = 0.05
NUMBERS = itertools.count()


@dataclass
class Load:
    """Calls of new texts, kept under way on one channel until told to end; each outcome is counted once."""

    channel: grpc.Channel
    sent: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    is_over: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self) -> None:
        """Send one call, and another whenever one is answered."""
        contents = [content_pb2.Content(text=f"under load, number {next(NUMBERS)}") for _ in range(4)]
        stub = embedding_service_pb2_grpc.EmbeddingServiceStub(self.channel)
        with self._lock:
            self.sent += 1
        call = stub.Embed.future(embedding_service_pb2.EmbedRequest(contents=contents), timeout=60)
        call.add_done_callback(self._take)

    def _take(self, call: grpc.Future) -> None:
        if (error := call.exception()) is not None:
            outcome = error.code().name
        else:
            reply = call.result()
            assert len(reply.sources) == 4
            failed = {item.index: item.status.code for item in reply.errors}
            assert all((source == 5) == (row in failed) for row, source in enumerate(reply.sources))
            codes = {grpc.StatusCode.UNAVAILABLE.value[0]} if failed else set()
            assert set(failed.values()) <= codes
            outcome = "PARTLY" if failed else "OK"
        with self._lock:
            self.outcomes[outcome] += 1
        if outcome == "UNAVAILABLE":  # comes back soon, as a client would
            threading.Timer(_BACK_OFF_S, self._send_on).start()
        else:
            self._send_on()

    def _send_on(self) -> None:
        if not self.is_over:
            self.send()

    @property
    def answered(self) -> int:
        """How many calls have an outcome."""
        return sum(self.outcomes.values())


@contextmanager
def load_on(service: Processes, *names: str) -> Iterator[list[Load]]:
    """Keep calls under way on each of these front-ends; at the end every call has been answered exactly once."""
    with ExitStack() as stack:
        loads = [Load(stack.enter_context(service.channel_to(name))) for name in names]
        for load in loads:
            for _ in range(_IN_FLIGHT):
                load.send()
        wait_until(lambda: all(load.outcomes["OK"] >= 2 for load in loads))
        yield loads
        for load in loads:
            load.is_over = True
        wait_until(lambda: all(load.answered == load.sent for load in loads))
