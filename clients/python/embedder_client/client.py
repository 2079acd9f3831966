"""The blocking client."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc

from embedder_client import embed_plan, plans
from embedder_client import options as declared
from embedder_client.blocking import BlockingReplicas, BlockingService, Sending
from embedder_client.channel import call_metadata
from embedder_client.content_hash import hash_text
from embedder_client.contents import ContentLike
from embedder_client.decoding import answer_piece
from embedder_client.errors import ConnectionFailed, DeadlineExceeded, Internal
from embedder_client.heads import AnswerPiece, HeadList, PredictResult, RecommendResult, RetrieveResult, ScoreResult
from embedder_client.homes import Homes
from embedder_client.layouts import LayoutCache
from embedder_client.plans import Calls, Known, Plan, Rpc
from embedder_client.reports import CacheStats, SpaceList
from embedder_client.results import EmbedResult, LookupResult
from embedder_client.rpc_errors import error_from_rpc
from embedder_client.savings import SavingsReport
from embedder_client.sending import Ways, remaining_s
from embedder_client.settings import ClientSettings
from embedder_client.streams import StreamWindow, bulk_options
from embedder_client.tracing import Metadata, call_tracing

Result = TypeVar("Result")
Batch = Iterable[ContentLike]


class Client:
    """Asks a running embedder-serve; may be shared by threads, must not cross a fork.

    Every method raises a type of `embedder_client.errors`; items that fail alone stand in the result's `failures`.
    Keyword arguments are declared in `embedder_client.options`.

    Args:
        target: where the service listens, as gRPC names it: "host:port", "dns:///name:port", "unix:path".
        locality: send each content to its home among several replicas, whose cache is warm for it, and to the next one when that is
            gone: "dns:///name:port" with an address for each replica, "dns:///a:port,b:port" or "ipv4:address:port,address:port".
        settings: how to connect, wait and split.
    """

    def __init__(
        self, target: str = "127.0.0.1:50051", *, locality: bool = False, settings: ClientSettings | None = None
    ) -> None:
        self.target = target
        self.settings = settings or ClientSettings()
        self._tracing = call_tracing(self.settings, target)
        self._service = BlockingReplicas(target, self.settings) if locality else BlockingService(target, self.settings)
        self._closed = False
        self._layouts = LayoutCache()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the channel; calls in flight end with ConnectionFailed."""
        self._closed = True
        self._service.close()

    def embed(
        self, contents: Iterable[ContentLike] | None = None, **options: Unpack[declared.EmbedOptions]
    ) -> EmbedResult:
        """Embed contents: `str` is a text, `bytes` an image; see `embedder_client.contents` for more.

        Returns:
            One vector for each content, in order; (n, dim) float16 unless `dtype` says otherwise.
        """
        return self._run(embed_plan.embed(self.settings, contents, options, self._homes()))

    def embed_stream(
        self, batches: Iterable[Iterable[ContentLike]], **options: Unpack[declared.EmbedStreamOptions]
    ) -> Iterator[EmbedResult]:
        """Embed many batches over one stream; a few are in flight together.

        Batches are taken from the iterable in the caller's thread, as answers are taken. An error ends the stream;
        batches that were not answered by then are lost to the caller.

        Returns:
            One result for each batch, in order.
        """
        declared.check_options(declared.EmbedStreamOptions, options)
        return self._stream(options, batches)

    def lookup(self, hashes: bytes | Iterable[bytes], **options: Unpack[declared.LookupOptions]) -> LookupResult:
        """Read vectors by content hash (packed, or one by one); what is not held stands in the result's `wanted`."""
        return self._run(plans.lookup(self.settings, hashes, options, self._homes()))

    def predict(
        self,
        contents: Iterable[ContentLike] | None = None,
        heads: Sequence[str] | Mapping[str, int] = (),
        **options: Unpack[declared.PredictOptions],
    ) -> PredictResult:
        """Score contents, or `hashes`, with several heads at once.

        Args:
            contents: the contents; leave out when `hashes`, `texts` or `images` are given.
            heads: names, with a version or alias if wanted ("topic@3"); or name to `top_k`.
            options: see `PredictOptions`.
        """
        return self._run(
            plans.predict(self.settings, contents, heads, options, known=Known(self._layouts, self._homes()))
        )

    def score(self, query: ContentLike | None = None, **options: Unpack[declared.ScoreOptions]) -> ScoreResult:
        """Score hundreds of candidates for one query, or for one user by `user_id`, `history_ids` or `history_hashes`."""
        return self._run(plans.score(self.settings, query, options, self._homes()))

    def retrieve(
        self, index: str, queries: Iterable[ContentLike], **options: Unpack[declared.RetrieveOptions]
    ) -> RetrieveResult:
        """Find the items of an index that are nearest to each query."""
        return self._run(plans.retrieve(self.settings, index, queries, options, self._homes()))

    def recommend(self, index: str, **options: Unpack[declared.RecommendOptions]) -> RecommendResult:
        """Find items like those of a history (`history_ids`, `history`), leaving out what the history holds."""
        return self._run(plans.recommend(self.settings, index, options, self._homes()))

    def answer(self, index: str, question: str, **options: Unpack[declared.AnswerOptions]) -> Iterator[AnswerPiece]:
        """Answer a question from an index's documents, piece by piece."""
        request, timeout_s = plans.answer(self.settings, index, question, options)
        return self._answer(request, timeout_s)

    def list_heads(self, **options: Unpack[declared.TimeOption]) -> HeadList:
        """List the heads and indexes that can be asked."""
        return self._run(plans.list_heads(self.settings, options))

    def savings(self, **options: Unpack[declared.SavingsOptions]) -> SavingsReport:
        """Report what sharing saved in a time range."""
        return self._run(plans.savings(self.settings, options))

    def spaces(self, **options: Unpack[declared.TimeOption]) -> SpaceList:
        """List the embedding spaces that are served, and their aliases."""
        return self._run(plans.spaces(self.settings, options))

    def set_alias(self, alias: str, space: str, **options: Unpack[declared.AliasOptions]) -> str:
        """Point an alias at a space; returns the space that it pointed at before, empty if it is new."""
        return self._run(plans.set_alias(self.settings, alias, space, options))

    def cache_stats(self, **options: Unpack[declared.TimeOption]) -> CacheStats:
        """Show the cache's size and counters."""
        return self._run(plans.cache_stats(self.settings, options))

    def limits(self, **options: Unpack[declared.TimeOption]) -> dict[str, int]:
        """Show the limits that contents and calls must keep, by the name of the service's setting."""
        return self._run(plans.limits(self.settings, options))

    def delete(self, hashes: bytes | Iterable[bytes], **options: Unpack[declared.DeleteOptions]) -> int:
        """Erase vectors by content hash; returns how many entries were held and are gone."""
        return self._run(plans.delete(self.settings, hashes, options))

    def _run(self, plan: Plan[Result]) -> Result:
        """Carry a plan out."""
        deadline = time.monotonic() + plan.timeout_s
        try:
            calls = next(plan.steps)
            while True:
                calls = plan.steps.send(self._ask(calls, deadline))
        except StopIteration as finished:
            result: Result = finished.value
            return result

    def _ask(self, calls: Calls, deadline: float) -> list[Any]:
        """Ask one method, in a span of its own where calls are traced."""
        with self._traced(calls.rpc, requests=len(calls.requests)) as metadata:
            return self._send(calls, deadline, metadata)

    def _send(self, calls: Calls, deadline: float, metadata: Metadata) -> list[Any]:
        """Send requests, at most `max_requests_in_flight` at a time to one service; returns their answers in order."""
        ways = self._ways().of(calls)
        window = self.settings.max_requests_in_flight * len({id(way.connection) for _, way in ways})
        answers: list[Any] = []
        pending: deque[Sending] = deque()
        try:
            with self._errors():
                if len(ways) == 1:  # Blocks on the call itself; a future would start a thread.
                    request, way = ways[0]
                    pending.append(Sending(calls.rpc, request, way, deadline, metadata))
                    return [pending[0].answer()]
                for request, way in ways:
                    if len(pending) == window:
                        answers.append(pending[0].answer())
                        pending.popleft().end()
                    pending.append(Sending(calls.rpc, request, way, deadline, metadata))
                    pending[-1].start()
                return answers + [sending.answer() for sending in pending]
        finally:
            for sending in pending:
                sending.end()

    def _stream(self, options: declared.EmbedStreamOptions, batches: Iterable[Batch]) -> Iterator[EmbedResult]:
        if isinstance(self._service, BlockingReplicas):
            yield from self._embed_side_by_side(options, batches)
            return
        window = StreamWindow(self.settings, options)
        with self._traced(Rpc.EMBED_STREAM) as metadata:
            yield from self._exchange(window, batches, metadata)

    def _embed_side_by_side(
        self, options: declared.EmbedStreamOptions, batches: Iterable[Batch]
    ) -> Iterator[EmbedResult]:
        """Embed batches whose contents have several homes: calls instead of one stream, a few of them side by side."""
        chosen = bulk_options(options)
        pending: deque[Future[EmbedResult]] = deque()
        pool = ThreadPoolExecutor(self.settings.max_requests_in_flight, thread_name_prefix="call_stream")
        try:
            for batch in batches:
                if len(pending) == self.settings.max_requests_in_flight:
                    yield pending.popleft().result()
                pending.append(pool.submit(self.embed, list(batch), **chosen))
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _exchange(self, window: StreamWindow, batches: Iterable[Batch], metadata: Metadata) -> Iterator[EmbedResult]:
        outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
        call = self._ways().way(None).connection.methods[Rpc.EMBED_STREAM](iter(outbox.get, None), metadata=metadata)
        try:
            for batch in batches:
                for request in window.requests(batch):
                    while window.full:
                        if (result := window.accept(self._receive(call, window.timeout_s))) is not None:
                            yield result
                    outbox.put(request)
            outbox.put(None)
            while window.waiting:
                if (result := window.accept(self._receive(call, window.timeout_s))) is not None:
                    yield result
        finally:
            outbox.put(None)  # Ends gRPC's thread that waits for requests.
            call.cancel()

    def _receive(self, call: Any, timeout_s: float) -> Any:
        """Wait for a stream's next answer; gRPC knows deadlines of whole streams only, so a timer cancels."""
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            call.cancel()

        timer = threading.Timer(timeout_s, expire)
        timer.start()
        try:
            with self._errors():
                return next(call)
        except StopIteration as error:
            raise Internal(f"{self.target} ended the stream before its last answer") from error
        except ConnectionFailed as error:
            if expired.is_set():
                raise DeadlineExceeded(f"no answer from {self.target} in {timeout_s:g} s") from error
            raise
        finally:
            timer.cancel()
            timer.join()

    def _answer(self, request: Any, timeout_s: float) -> Iterator[AnswerPiece]:
        homes = self._homes()
        way = self._ways().way(None if homes is None else homes.of(hash_text(request.question)))
        deadline = time.monotonic() + timeout_s
        with self._traced(Rpc.ANSWER) as metadata, self._errors():
            while True:
                is_begun = False
                call = way.connection.methods[Rpc.ANSWER](request, timeout=remaining_s(deadline), metadata=metadata)
                try:
                    for message in call:
                        is_begun = True
                        yield answer_piece(message)
                    return
                except grpc.RpcError as error:
                    # What was said stands: an answer that has begun is not begun anew elsewhere.
                    wait_s = None if is_begun or homes is None else way.wait_s(error, remaining_s=remaining_s(deadline))
                    if wait_s is None or self._closed:
                        raise
                    time.sleep(wait_s)
                finally:
                    call.cancel()
                    way.end()

    def _homes(self) -> Homes | None:
        """Return where contents are at home among replicas; None where there is one service."""
        return self._ways().homes()

    def _ways(self) -> Ways:
        if self._closed:
            raise ConnectionFailed(f"the client of {self.target} is closed")
        return self._service.ways()

    def _traced(self, rpc: Rpc, *, requests: int = 1) -> AbstractContextManager[Metadata]:
        """Open a call's span, where calls are traced; gives the call's metadata."""
        metadata = call_metadata(self.settings)
        return nullcontext(metadata) if self._tracing is None else self._tracing.call(rpc, metadata, requests=requests)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what gRPC raises into our errors."""
        try:
            yield
        except grpc.RpcError as error:
            raise error_from_rpc(error, target=self.target) from error
        except (grpc.FutureCancelledError, ValueError) as error:  # ValueError: gRPC's word for a closed channel.
            if not self._closed:
                raise
            raise ConnectionFailed(f"the client of {self.target} was closed during the call") from error
