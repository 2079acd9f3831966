"""Answer on the wire: the passages of a question, and the pieces of its answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from embedder.errors import InvalidRequest
from embedder.server import retrieval
from embedder.server.answer_desk import AnswerDesk, Asker
from embedder.server.contents import WireContents, items_of
from embedder.server.filters import filters_of
from embedder_client.v1 import content_pb2
from embedder_client.v1 import head_service_pb2 as pb
from embedder_heads.generation.answering import NOT_IN_DOCUMENTS, near_enough
from embedder_heads.generation.decoding import End
from embedder_heads.generation.prompt import Passage
from embedder_heads.index.hybrid import Query, SearchMode, SearchOptions
from embedder_heads.index.hybrid import search as search_index
from embedder_heads.index.vector_index import IndexHit, VectorIndex

_DEFAULT_PASSAGES = 4
_MAX_PASSAGES = 32
_ENDS = {
    End.COMPLETE: pb.ANSWER_END_COMPLETE,
    End.TOKEN_LIMIT: pb.ANSWER_END_TOKEN_LIMIT,
    End.TIME_LIMIT: pb.ANSWER_END_TIME_LIMIT,
    End.NOT_IN_DOCUMENTS: pb.ANSWER_END_NOT_IN_DOCUMENTS,
}


def search_options(index: VectorIndex, request: pb.AnswerRequest) -> SearchOptions:
    """Read how a question's passages are found.

    Raises:
        InvalidRequest: the index keeps no texts, or a count, mode or filter is not possible.
    """
    if index.lexical is None:
        ref = f"{index.manifest.name}@{index.manifest.version}"
        raise InvalidRequest(f"{ref} keeps no texts, so there is nothing to answer from; build it again with its texts")
    if request.top_k > _MAX_PASSAGES:
        raise InvalidRequest(f"top_k={request.top_k}; the limit is {_MAX_PASSAGES} passages")
    mode = retrieval.mode_of(request.mode) if request.mode else SearchMode.HYBRID
    return SearchOptions(top_k=request.top_k or _DEFAULT_PASSAGES, mode=mode, filters=filters_of(request.filters))


def question_item(question: str) -> WireContents:
    """Return a question as the content that it is."""
    if not question.strip():
        raise InvalidRequest("question is empty; ask something")
    return items_of([content_pb2.Content(text=question)], max_items=1, field="question")


def find_passages(
    index: VectorIndex, vector: npt.NDArray[np.float32], question: str, options: SearchOptions
) -> list[tuple[IndexHit, Passage]]:
    """Find a question's passages, best first, each with how near its vector is; items without a text are left out."""
    [hits] = search_index(index, [Query(vector, question)], options)
    if not hits:
        return []
    cosines = index.vectors_of([hit.id for hit in hits]) @ vector
    pairs = [
        (hit, Passage(hit.id, index.text_of(hit.id), float(cosine))) for hit, cosine in zip(hits, cosines, strict=True)
    ]
    return [(hit, passage) for hit, passage in pairs if passage.text]


def replies(
    desk: AnswerDesk, question: str, found: list[tuple[IndexHit, Passage]], *, max_tokens: int, asker: Asker
) -> Iterator[pb.AnswerResponse]:
    """Say the answer in pieces; the last one brings the citations and how it ended."""
    passages = [passage for _, passage in found]
    if not near_enough(passages, min_cosine=desk.min_cosine):
        yield pb.AnswerResponse(text=NOT_IN_DOCUMENTS, end=pb.ANSWER_END_NOT_IN_DOCUMENTS)
        return
    words = desk.answer(question, passages, max_tokens=max_tokens, asker=asker)
    while True:
        try:
            yield pb.AnswerResponse(text=next(words))
        except StopIteration as finished:
            ending = finished.value
            break
    if ending.end is not End.ABANDONED:
        hits = {hit.id: hit for hit, _ in found}
        citations = [_citation(hits[passage.id], passage) for passage in ending.citations]
        yield pb.AnswerResponse(citations=citations, end=_ENDS[ending.end], tokens=ending.tokens)


def _citation(hit: IndexHit, passage: Passage) -> pb.Hit:
    citation = pb.Hit(id=hit.id, score=hit.score, text=passage.text)
    if hit.metadata:
        citation.metadata.update(hit.metadata)
    return citation
