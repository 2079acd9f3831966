"""The batches of one EmbedStream that wait for their answers, and the joining of those that were split."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from embedder_client.contents import ContentLike, gather_contents
from embedder_client.decoding import embed_result
from embedder_client.encoding import content_messages, embed_request, split_messages
from embedder_client.errors import Internal
from embedder_client.merging import merge_embeds
from embedder_client.options import EmbedStreamOptions, check_options
from embedder_client.plans import call_timeout_s
from embedder_client.results import EmbedResult
from embedder_client.settings import ClientSettings
from embedder_client.v1 import embedding_service_pb2


def bulk_options(options: EmbedStreamOptions) -> EmbedStreamOptions:
    """Return a stream's options: in the bulk lane, unless told otherwise."""
    return {"lane": "bulk", **options}


@dataclass
class _Batch:
    """One batch of the caller, and the answers to its parts so far."""

    items: int
    parts: int
    answers: list[EmbedResult] = field(default_factory=list)


class StreamWindow:
    """Numbers the requests of one stream, and matches the answers, which come in the same order.

    Whoever carries the stream asks for a batch's `requests`, and before sending each one takes answers while the window
    is `full`.

    Attributes:
        timeout_s: longest wait for one answer.
    """

    def __init__(self, settings: ClientSettings, options: EmbedStreamOptions) -> None:
        check_options(EmbedStreamOptions, options)
        self._settings = settings
        self._options = bulk_options(options)
        self.timeout_s = call_timeout_s(settings, self._options)
        self._batches: deque[_Batch] = deque()
        self._sent = 0
        self._answered = 0

    @property
    def full(self) -> bool:
        """Whether an answer must come before another request may be sent."""
        return self._sent - self._answered >= self._settings.max_requests_in_flight

    @property
    def waiting(self) -> bool:
        """Whether any request is unanswered."""
        return self._sent > self._answered

    def requests(self, contents: Iterable[ContentLike]) -> Iterator[embedding_service_pb2.EmbedStreamRequest]:
        """Number the requests of one batch; each counts as sent once the next one, or the end, is asked for.

        Raises:
            InvalidRequest: a content can't travel; nothing of the batch was sent.
        """
        messages = content_messages(gather_contents(contents))
        runs = split_messages(messages, self._settings)
        self._batches.append(_Batch(items=len(messages), parts=len(runs)))
        for run in runs:
            request = embed_request(run, self._options)
            yield embedding_service_pb2.EmbedStreamRequest(sequence=self._sent, request=request)
            self._sent += 1

    def accept(self, message: embedding_service_pb2.EmbedStreamResponse) -> EmbedResult | None:
        """Take the next answer; returns a batch's result once all its parts are there.

        Raises:
            Internal: the answer is not the one that is due, or is for another number of items.
        """
        if message.sequence != self._answered:
            raise Internal(f"the stream's answer {self._answered} was due, and {message.sequence} came")
        self._answered += 1
        batch = self._batches[0]
        batch.answers.append(embed_result(message.response))
        if len(batch.answers) < batch.parts:
            return None
        self._batches.popleft()
        result = merge_embeds(batch.answers)
        if len(result) != batch.items:
            raise Internal(f"{batch.items} items were asked about, and the service answered for {len(result)}")
        return result
