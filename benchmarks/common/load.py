"""A light load generator for gRPC: requests go out serialized, answers come back as bytes, one thread drives all calls."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from typing import Any

import grpc
import numpy as np

from embedder_client.v1 import content_pb2, embedding_service_pb2

EMBED = "/embedder.v1.EmbeddingService/Embed"
LOOKUP = "/embedder.v1.EmbeddingService/Lookup"

_OPTIONS = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", 64 << 20)]
_LONGEST_CALL_S = 60.0

Method = Any  # a callable of one RPC, from bytes to bytes; grpc ships no types


@dataclass(frozen=True, slots=True)
class CallRecord:
    """One call: when it was sent and how long it took, in seconds of `time.perf_counter()`, and how it ended."""

    sent_s: float
    seconds: float
    code: grpc.StatusCode


class Load:
    """The calls of one run of load, in the order of their ends."""

    def __init__(self, calls: list[CallRecord], *, start_s: float, end_s: float) -> None:
        self.calls = calls
        self.start_s = start_s
        self.wall_s = end_s - start_s

    def count(self, code: grpc.StatusCode = grpc.StatusCode.OK) -> int:
        """Return how many calls ended with a status."""
        return sum(call.code is code for call in self.calls)

    def expect_answers(self) -> Load:
        """Return the load itself.

        Raises:
            RuntimeError: a call ended with another status than OK, so the run's figures say nothing.
        """
        failed = Counter(call.code.name for call in self.calls if call.code is not grpc.StatusCode.OK)
        if failed:
            raise RuntimeError(f"of {len(self.calls)} calls, these failed: {dict(failed)}")
        return self

    @property
    def sending_s(self) -> float:
        """Seconds from the start to the last sending."""
        return max(call.sent_s for call in self.calls) - self.start_s

    @property
    def rate(self) -> float:
        """Answered calls a second."""
        return self.count() / self.wall_s

    def milliseconds(self, percent: float, code: grpc.StatusCode = grpc.StatusCode.OK) -> float:
        """Return a percentile of the time of calls that ended with a status; NaN without any."""
        seconds = [call.seconds for call in self.calls if call.code is code]
        return float(np.percentile(seconds, percent)) * 1_000 if seconds else float("nan")


def embed_request(texts: Sequence[str], *, task: str = "", lane: str = "interactive") -> bytes:
    """Return a serialized request for the vectors of texts."""
    return embedding_service_pb2.EmbedRequest(
        contents=[content_pb2.Content(text=text) for text in texts],
        lane=f"LANE_{lane.upper()}",
        task=task,
    ).SerializeToString()


@contextmanager
def open_method(address: str, path: str) -> Iterator[Method]:
    """Connect, and give the callable of one RPC, from bytes to bytes."""
    with grpc.insecure_channel(address, _OPTIONS) as channel:
        grpc.channel_ready_future(channel).result(timeout=_LONGEST_CALL_S)
        yield channel.unary_unary(path)


@contextmanager
def open_spread(address: str, path: str, *, connections: int) -> Iterator[Method]:
    """Connect several times, which spreads over processes that share a port, and give one callable that takes them in turns."""
    with ExitStack() as stack:
        options = [*_OPTIONS, ("grpc.use_local_subchannel_pool", 1)]
        channels = [stack.enter_context(grpc.insecure_channel(address, options)) for _ in range(connections)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(timeout=_LONGEST_CALL_S)
        yield _Spread([channel.unary_unary(path) for channel in channels])


class _Spread:
    """One RPC over several connections, in turns."""

    def __init__(self, methods: Sequence[Method]) -> None:
        self._methods = cycle(methods)

    def future(self, request: bytes, timeout: float) -> Any:
        return next(self._methods).future(request, timeout=timeout)


def closed_loop(method: Method, requests: Iterable[bytes], *, in_flight: int) -> Load:
    """Keep `in_flight` calls under way until the requests are used up, and wait for the last answer."""
    source = iter(requests)
    source_lock = threading.Lock()
    sender = _Sender(method, timeout_s=_LONGEST_CALL_S)

    def send_next() -> None:
        with source_lock:
            request = next(source, None)
        if request is not None:
            sender.send(request, and_then=send_next)

    start_s = time.perf_counter()
    for _ in range(in_flight):
        send_next()
    return sender.finish(start_s)


def open_loop(method: Method, requests: Iterable[bytes], *, per_second: float, timeout_s: float) -> Load:
    """Send calls at a steady rate, whether or not earlier ones are answered; each has a deadline of `timeout_s`."""
    sender = _Sender(method, timeout_s=timeout_s)
    start_s = time.perf_counter()
    for position, request in enumerate(requests):
        wait_s = start_s + position / per_second - time.perf_counter()
        if wait_s > 0:
            time.sleep(wait_s)
        sender.send(request)
    return sender.finish(start_s)


def until(seconds: float, requests: Iterable[bytes]) -> Iterator[bytes]:
    """Yield requests for a while."""
    end_s = time.perf_counter() + seconds
    for request in requests:
        if time.perf_counter() > end_s:
            return
        yield request


class _Sender:
    """Sends calls and notes how each ended. gRPC's own thread takes the answers."""

    def __init__(self, method: Method, *, timeout_s: float) -> None:
        self._method = method
        self._timeout_s = timeout_s
        self._calls: list[CallRecord] = []
        self._under_way = 1  # the run itself, until it has sent all
        self._condition = threading.Condition()

    def send(self, request: bytes, *, and_then: Callable[[], None] | None = None) -> None:
        with self._condition:
            self._under_way += 1
        sent_s = time.perf_counter()
        future = self._method.future(request, timeout=self._timeout_s)
        future.add_done_callback(partial(self._receive, sent_s, and_then))

    def finish(self, start_s: float) -> Load:
        self._count_down()
        with self._condition:
            if not self._condition.wait_for(lambda: self._under_way == 0, timeout=2 * _LONGEST_CALL_S):
                raise TimeoutError(f"{self._under_way} calls were never answered")
        end_s = max((call.sent_s + call.seconds for call in self._calls), default=start_s)
        return Load(self._calls, start_s=start_s, end_s=end_s)

    def _receive(self, sent_s: float, and_then: Callable[[], None] | None, future: Any) -> None:
        self._calls.append(CallRecord(sent_s, time.perf_counter() - sent_s, future.code()))
        if and_then is not None:
            and_then()
        self._count_down()

    def _count_down(self) -> None:
        with self._condition:
            self._under_way -= 1
            if self._under_way == 0:
                self._condition.notify_all()
