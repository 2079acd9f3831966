"""Nearest neighbours for the wire: indexes by name, queries by vector, hits out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from embedder.engine.contents import EmbedOptions, EmbedOutcome
from embedder.errors import InvalidRequest
from embedder.server.contents import NamedContents
from embedder.server.filters import filters_of
from embedder.server.runtime import Runtime
from embedder.server.spaces import ServedSpace
from embedder_client.v1 import content_pb2
from embedder_client.v1 import head_service_pb2 as pb
from embedder_heads.errors import HeadSpaceMismatch
from embedder_heads.index.hybrid import Query, SearchMode, SearchOptions
from embedder_heads.index.hybrid import search as search_index
from embedder_heads.index.vector_index import IndexHit, VectorIndex
from embedder_heads.recommendation.recommender import recommend as recommend_items
from embedder_heads.recommendation.recommender import seen_by, traits_of

_DEFAULT_TOP_K = 10
_MAX_TOP_K = 1_000
_RERANK_FACTOR = 5
# Two float16 roundings of one vector stay above this cosine; another content stays below it in practice.
_SAME_CONTENT_COSINE = 0.9999

_MODES = {
    pb.RETRIEVAL_MODE_UNSPECIFIED: SearchMode.DENSE,
    pb.RETRIEVAL_MODE_DENSE: SearchMode.DENSE,
    pb.RETRIEVAL_MODE_LEXICAL: SearchMode.LEXICAL,
    pb.RETRIEVAL_MODE_HYBRID: SearchMode.HYBRID,
}


def open_index(runtime: Runtime, name: str) -> tuple[VectorIndex, ServedSpace]:
    """Return an index and the served space that it was built in.

    Raises:
        IndexNotFound, IndexInvalid, HeadNameInvalid: there is no such index, or its files are not right.
        HeadSpaceMismatch: it was built in a space that is not served here.
    """
    index = runtime.indexes.open(name)
    spaces = runtime.spaces
    for space in spaces:
        if space.digest.hex() == index.manifest.space_digest:
            return index, space
    default = spaces.resolve("")
    raise HeadSpaceMismatch(index.manifest.name, wants=index.manifest.space_digest, has=default.digest.hex())


def check_top_k(top_k: int) -> int:
    """Return how many hits are asked for, 10 if the call does not say."""
    if top_k > _MAX_TOP_K:
        raise InvalidRequest(f"top_k={top_k}; the limit is {_MAX_TOP_K}")
    return top_k or _DEFAULT_TOP_K


def search_options(request: pb.RetrieveRequest) -> SearchOptions:
    """Read how a Retrieve searches; with `rerank`, as many items are found as are ranked again.

    Raises:
        InvalidRequest: a count, mode or filter is not possible.
    """
    top_k = check_top_k(request.top_k)
    if request.HasField("rerank"):
        top_k = max(top_k, check_top_k(request.rerank.candidates or min(_RERANK_FACTOR * top_k, _MAX_TOP_K)))
    return SearchOptions(top_k=top_k, mode=mode_of(request.mode), filters=filters_of(request.filters))


def mode_of(mode: pb.RetrievalMode) -> SearchMode:
    """Read what queries are compared by."""
    if mode not in _MODES:
        raise InvalidRequest(f"mode={mode}; known are 1 (dense), 2 (lexical) and 3 (hybrid)")
    return _MODES[mode]


def search(
    index: VectorIndex, outcome: EmbedOutcome, queries: Sequence[content_pb2.Content], options: SearchOptions
) -> list[list[IndexHit]]:
    """Find items for each query; a failed query finds none."""
    served = [row for row in range(len(outcome.sources)) if row not in outcome.failures]
    results: list[list[IndexHit]] = [[] for _ in outcome.sources]
    if served:
        texts = [queries[row].text if queries[row].WhichOneof("kind") == "text" else None for row in served]
        vectors = outcome.vectors[served].astype(np.float32)
        asked = [Query(vector, text) for vector, text in zip(vectors, texts, strict=True)]
        for row, hits in zip(served, search_index(index, asked, options), strict=True):
            results[row] = hits
    return results


def recommend(
    runtime: Runtime, index: VectorIndex, request: pb.RecommendRequest, outcome: EmbedOutcome, top_k: int
) -> pb.Hits:
    """Find items for a history; what the history holds does not come back, by id or by content.

    By the recommender that was trained for the index, or by likeness where none was.
    """
    served = [row for row in range(len(outcome.sources)) if row not in outcome.failures]
    history = outcome.vectors[served].astype(np.float32)  # (n, dim)
    recommender = runtime.indexes.recommender_of(index)
    hits = recommend_items(
        index,
        recommender,
        top_k + len(history),
        history_ids=[*seen_by(recommender, request.user_id), *request.history_ids],
        history_vectors=history,
        traits=traits_of(recommender, request.user_id),
        exclude=list(request.exclude_ids),
        filters=filters_of(request.filters),
    )
    if len(history) and hits:
        cosines = index.vectors_of([hit.id for hit in hits]) @ history.T  # (hits, n)
        hits = [hit for hit, seen in zip(hits, cosines.max(axis=1) >= _SAME_CONTENT_COSINE, strict=True) if not seen]
    return hits_message(hits[:top_k])


def count(
    runtime: Runtime,
    space: ServedSpace,
    options: EmbedOptions,
    outcome: EmbedOutcome,
    items: NamedContents,
    search_s: float,
) -> None:
    """Count a call's contents, and its search as the head's time."""
    runtime.account(space).record_heads(
        options, outcome, items.named_hashes, heads=(options.task,), head_seconds=[search_s], by_head=False
    )


def descriptions(runtime: Runtime) -> list[pb.IndexDescription]:
    """Describe the indexes that can be asked."""
    return [
        pb.IndexDescription(
            index=manifest.name,
            items=manifest.items,
            space_digest=bytes.fromhex(manifest.space_digest),
            kind=manifest.kind,
        )
        for manifest, _ in runtime.indexes.listing()
    ]


def hits_message(hits: Sequence[IndexHit], texts_of: VectorIndex | None = None) -> pb.Hits:
    """Tell what was found; with `texts_of`, each hit brings its text from there."""
    message = pb.Hits()
    for hit in hits:
        entry = message.hits.add(id=hit.id, score=hit.score)
        if hit.metadata:
            entry.metadata.update(hit.metadata)
        if texts_of is not None:
            entry.text = texts_of.text_of(hit.id)
    return message
