"""The asyncio client: the same methods, plans and results as the blocking one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from types import TracebackType
from typing import Any, TypeVar, Unpack

import grpc
import grpc.aio

from embedder_client import embed_plan, plans
from embedder_client import options as declared
from embedder_client.asynchronous import AsyncReplicas, AsyncSending, AsyncService, check_target
from embedder_client.channel import call_metadata
from embedder_client.content_hash import hash_text
from embedder_client.contents import ContentLike
from embedder_client.decoding import answer_piece
from embedder_client.errors import ConnectionFailed, DeadlineExceeded, EmbedderClientError, Internal
from embedder_client.heads import AnswerPiece, HeadList, PredictResult, RecommendResult, RetrieveResult, ScoreResult
from embedder_client.homes import Homes
from embedder_client.layouts import LayoutCache
from embedder_client.plans import Calls, Known, Plan, Rpc
from embedder_client.reports import CacheStats, SpaceList
from embedder_client.results import EmbedResult, LookupResult
from embedder_client.rpc_errors import error_from_rpc
from embedder_client.savings import SavingsReport
from embedder_client.sending import Way, Ways, remaining_s
from embedder_client.settings import ClientSettings
from embedder_client.stream_ending import StreamEnding
from embedder_client.streams import StreamWindow, bulk_options
from embedder_client.tracing import Metadata, call_tracing

Result = TypeVar("Result")
Batch = Iterable[ContentLike]


class AsyncClient:
    """`Client` for asyncio; belongs to the event loop of its first call.

    The methods and their arguments are those of `Client`, awaited. Cancelling a task cancels its calls in flight.

    Args:
        target: where the service listens, as gRPC names it: "host:port", "dns:///name:port", "unix:path".
        locality: send each content to its home among several replicas; see `Client`.
        settings: how to connect, wait and split.
    """

    def __init__(
        self, target: str = "127.0.0.1:50051", *, locality: bool = False, settings: ClientSettings | None = None
    ) -> None:
        self.target = target
        self.settings = settings or ClientSettings()
        self._locality = locality
        self._tracing = call_tracing(self.settings, target)
        check_target(target, self.settings, locality=locality)
        self._service: AsyncService | AsyncReplicas | None = None
        self._closed = False
        self._layouts = LayoutCache()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls in flight end with ConnectionFailed."""
        self._closed = True
        service, self._service = self._service, None  # gRPC's poller thread ends with its last channel.
        if service is not None:
            await service.close()

    async def embed(
        self, contents: Iterable[ContentLike] | None = None, **options: Unpack[declared.EmbedOptions]
    ) -> EmbedResult:
        """Embed contents; see `Client.embed`."""
        return await self._run(embed_plan.embed(self.settings, contents, options, await self._homes()))

    def embed_stream(
        self,
        batches: Iterable[Batch] | AsyncIterable[Batch],
        **options: Unpack[declared.EmbedStreamOptions],
    ) -> AsyncIterator[EmbedResult]:
        """Embed many batches over one stream; see `Client.embed_stream`. The batches may come asynchronously."""
        declared.check_options(declared.EmbedStreamOptions, options)
        return self._stream(options, batches)

    async def lookup(self, hashes: bytes | Iterable[bytes], **options: Unpack[declared.LookupOptions]) -> LookupResult:
        """Read vectors by content hash; see `Client.lookup`."""
        return await self._run(plans.lookup(self.settings, hashes, options, await self._homes()))

    async def predict(
        self,
        contents: Iterable[ContentLike] | None = None,
        heads: Sequence[str] | Mapping[str, int] = (),
        **options: Unpack[declared.PredictOptions],
    ) -> PredictResult:
        """Score contents, or `hashes`, with several heads at once; see `Client.predict`."""
        known = Known(self._layouts, await self._homes())
        return await self._run(plans.predict(self.settings, contents, heads, options, known=known))

    async def score(self, query: ContentLike | None = None, **options: Unpack[declared.ScoreOptions]) -> ScoreResult:
        """Score candidates for one query or user; see `Client.score`."""
        return await self._run(plans.score(self.settings, query, options, await self._homes()))

    async def retrieve(
        self, index: str, queries: Iterable[ContentLike], **options: Unpack[declared.RetrieveOptions]
    ) -> RetrieveResult:
        """Find the items of an index that are nearest to each query."""
        return await self._run(plans.retrieve(self.settings, index, queries, options, await self._homes()))

    async def recommend(self, index: str, **options: Unpack[declared.RecommendOptions]) -> RecommendResult:
        """Find items like those of a history; see `Client.recommend`."""
        return await self._run(plans.recommend(self.settings, index, options, await self._homes()))

    def answer(
        self, index: str, question: str, **options: Unpack[declared.AnswerOptions]
    ) -> AsyncIterator[AnswerPiece]:
        """Answer a question from an index's documents, piece by piece."""
        request, timeout_s = plans.answer(self.settings, index, question, options)
        return self._answer(request, timeout_s)

    async def list_heads(self, **options: Unpack[declared.TimeOption]) -> HeadList:
        """List the heads and indexes that can be asked."""
        return await self._run(plans.list_heads(self.settings, options))

    async def savings(self, **options: Unpack[declared.SavingsOptions]) -> SavingsReport:
        """Report what sharing saved in a time range."""
        return await self._run(plans.savings(self.settings, options))

    async def spaces(self, **options: Unpack[declared.TimeOption]) -> SpaceList:
        """List the embedding spaces that are served, and their aliases."""
        return await self._run(plans.spaces(self.settings, options))

    async def set_alias(self, alias: str, space: str, **options: Unpack[declared.AliasOptions]) -> str:
        """Point an alias at a space; returns the space that it pointed at before, empty if it is new."""
        return await self._run(plans.set_alias(self.settings, alias, space, options))

    async def cache_stats(self, **options: Unpack[declared.TimeOption]) -> CacheStats:
        """Show the cache's size and counters."""
        return await self._run(plans.cache_stats(self.settings, options))

    async def limits(self, **options: Unpack[declared.TimeOption]) -> dict[str, int]:
        """Show the limits that contents and calls must keep, by the name of the service's setting."""
        return await self._run(plans.limits(self.settings, options))

    async def delete(self, hashes: bytes | Iterable[bytes], **options: Unpack[declared.DeleteOptions]) -> int:
        """Erase vectors by content hash; returns how many entries were held and are gone."""
        return await self._run(plans.delete(self.settings, hashes, options))

    async def _run(self, plan: Plan[Result]) -> Result:
        """Carry a plan out."""
        deadline = time.monotonic() + plan.timeout_s
        try:
            calls = next(plan.steps)
            while True:
                calls = plan.steps.send(await self._ask(calls, deadline))
        except StopIteration as finished:
            result: Result = finished.value
            return result

    async def _ask(self, calls: Calls, deadline: float) -> list[Any]:
        """Ask one method, in a span of its own where calls are traced."""
        ways = await self._ways()
        with self._traced(calls.rpc, requests=len(calls.requests)) as metadata:
            return await self._send_all(calls.rpc, ways.of(calls), deadline, metadata)

    async def _send_all(
        self, rpc: Rpc, ways: Sequence[tuple[Any, Way]], deadline: float, metadata: Metadata
    ) -> list[Any]:
        """Send requests, at most `max_requests_in_flight` at a time to one service; returns their answers in order."""
        window = self.settings.max_requests_in_flight * len({id(way.connection) for _, way in ways})
        answers: list[Any] = []
        pending: deque[AsyncSending] = deque()
        try:
            with self._errors():
                for request, way in ways:
                    if len(pending) == window:
                        answers.append(await pending[0].answer())
                        pending.popleft().end()
                    pending.append(AsyncSending(rpc, request, way, deadline, metadata))
                return answers + [await sending.answer() for sending in pending]
        finally:
            for sending in pending:
                sending.end()

    async def _stream(
        self, options: declared.EmbedStreamOptions, batches: Iterable[Batch] | AsyncIterable[Batch]
    ) -> AsyncIterator[EmbedResult]:
        if self._locality:
            exchange = self._embed_side_by_side(options, batches)
        else:
            exchange = self._exchange(StreamWindow(self.settings, options), batches)
        async with aclosing(exchange) as results:
            async for result in results:
                yield result

    async def _embed_side_by_side(
        self, options: declared.EmbedStreamOptions, batches: Iterable[Batch] | AsyncIterable[Batch]
    ) -> AsyncGenerator[EmbedResult]:
        """Embed batches whose contents have several homes: calls instead of one stream, a few of them side by side."""
        chosen = bulk_options(options)
        pending: deque[asyncio.Task[EmbedResult]] = deque()
        try:
            async for batch in _asynchronous(batches):
                if len(pending) == self.settings.max_requests_in_flight:
                    yield await pending.popleft()
                pending.append(asyncio.create_task(self.embed(list(batch), **chosen)))
            while pending:
                yield await pending.popleft()
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)

    async def _exchange(
        self, window: StreamWindow, batches: Iterable[Batch] | AsyncIterable[Batch]
    ) -> AsyncGenerator[EmbedResult]:
        connection = (await self._ways()).way(None).connection
        with self._traced(Rpc.EMBED_STREAM) as metadata:
            call = connection.methods[Rpc.EMBED_STREAM](metadata=metadata)
            ending = StreamEnding(call)
            try:
                async for batch in _asynchronous(batches):
                    for request in window.requests(batch):
                        while window.full:
                            if (
                                result := window.accept(await self._receive(call, ending, window.timeout_s))
                            ) is not None:
                                yield result
                        await self._send(call, ending, request, window.timeout_s)
                await call.done_writing()
                while window.waiting:
                    if (result := window.accept(await self._receive(call, ending, window.timeout_s))) is not None:
                        yield result
            finally:
                call.cancel()

    async def _send(self, call: Any, ending: StreamEnding, request: Any, timeout_s: float) -> None:
        """Write one request; if the call has ended, the write only knows that it failed, and `ending` knows why."""
        try:
            with self._errors():
                async with asyncio.timeout(timeout_s):
                    await call.write(request)
        except (asyncio.InvalidStateError, Internal) as error:
            raise await self._ended(ending) from error

    async def _receive(self, call: Any, ending: StreamEnding, timeout_s: float) -> Any:
        """Wait for a stream's next answer; gRPC knows deadlines of whole streams only."""
        try:
            with self._errors():
                async with asyncio.timeout(timeout_s):
                    return await anext(aiter(call))
        except (StopAsyncIteration, Internal) as error:
            raise await self._ended(ending) from error

    async def _ended(self, ending: StreamEnding) -> EmbedderClientError:
        """Return the error that a stream ended with before its last answer."""
        error: Any = await ending.error()
        if error.code() is grpc.StatusCode.OK:
            return Internal(f"{self.target} ended the stream before its last answer")
        return error_from_rpc(error, target=self.target)

    async def _answer(self, request: Any, timeout_s: float) -> AsyncIterator[AnswerPiece]:
        ways = await self._ways()
        homes = ways.homes()
        way = ways.way(None if homes is None else homes.of(hash_text(request.question)))
        deadline = time.monotonic() + timeout_s
        with self._traced(Rpc.ANSWER) as metadata, self._errors():
            while True:
                is_begun = False
                call = way.connection.methods[Rpc.ANSWER](request, timeout=remaining_s(deadline), metadata=metadata)
                try:
                    async for message in call:
                        is_begun = True
                        yield answer_piece(message)
                    return
                except grpc.RpcError as error:
                    # What was said stands: an answer that has begun is not begun anew elsewhere.
                    wait_s = None if is_begun or homes is None else way.wait_s(error, remaining_s=remaining_s(deadline))
                    if wait_s is None or self._closed:
                        raise
                    await asyncio.sleep(wait_s)
                finally:
                    call.cancel()
                    way.end()

    def _traced(self, rpc: Rpc, *, requests: int = 1) -> AbstractContextManager[Metadata]:
        """Open a call's span, where calls are traced; gives the call's metadata."""
        metadata = call_metadata(self.settings)
        return nullcontext(metadata) if self._tracing is None else self._tracing.call(rpc, metadata, requests=requests)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Turn what gRPC and the event loop raise into our errors; a cancelled task stays cancelled."""
        try:
            yield
        except grpc.RpcError as error:
            raise error_from_rpc(error, target=self.target) from error
        except TimeoutError as error:
            if self._closed:  # a write that was under way when the channel closed is never told
                raise ConnectionFailed(f"the client of {self.target} was closed during the call") from error
            raise DeadlineExceeded(f"no answer from {self.target} in time") from error
        except (asyncio.CancelledError, grpc.aio.UsageError) as error:  # UsageError: gRPC's word for a closed channel.
            task = asyncio.current_task()
            if not self._closed or (task is not None and task.cancelling()):
                raise
            raise ConnectionFailed(f"the client of {self.target} was closed during the call") from error

    async def _homes(self) -> Homes | None:
        """Return where contents are at home among replicas; None where there is one service."""
        return (await self._ways()).homes()

    async def _ways(self) -> Ways:
        """Return the ways of requests; connected at the first call."""
        if self._closed:
            raise ConnectionFailed(f"the client of {self.target} is closed")
        if self._service is None:
            kind = AsyncReplicas if self._locality else AsyncService
            self._service = kind(self.target, self.settings)
        return await self._service.ways()


async def _asynchronous(batches: Iterable[Batch] | AsyncIterable[Batch]) -> AsyncIterator[Batch]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in batches:
            yield batch
