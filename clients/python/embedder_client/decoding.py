"""Messages to results: where protobuf ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
from google.protobuf.json_format import MessageToDict

from embedder_client import figures, heads, reports, results
from embedder_client.errors import Internal
from embedder_client.layouts import HeadPart, LayoutCache, PackedPredictions
from embedder_client.rpc_errors import details_from_status
from embedder_client.v1 import admin_service_pb2, content_pb2, head_service_pb2
from embedder_client.vectors import Dtype, PackedVectors, unpack_vectors

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    from embedder_client.v1 import embedding_service_pb2

Name = TypeVar("Name", bound=StrEnum)


def _names(wire: Any, prefix: str, names: type[Name]) -> dict[int, Name]:
    """Map a wire enum's numbers to ours by name; what only the wire knows is left out."""
    known = {name.value for name in names}
    pairs = ((number, name.removeprefix(prefix).lower()) for name, number in wire.items())
    return {number: names(name) for number, name in pairs if name in known}


_BASES = _names(content_pb2.Basis, "BASIS_", figures.Basis)
_DTYPES = _names(content_pb2.Dtype, "DTYPE_", Dtype)
_SOURCES = _names(content_pb2.ItemSource, "ITEM_SOURCE_", results.ItemSource)
_ANSWER_ENDS = _names(head_service_pb2.AnswerEnd, "ANSWER_END_", heads.AnswerEnd)
_SPACE_STATES = _names(admin_service_pb2.SpaceState, "SPACE_STATE_", reports.SpaceState)
_HEAD_KINDS = _names(head_service_pb2.HeadKind, "HEAD_KIND_", heads.HeadKind)


def embed_result(message: embedding_service_pb2.EmbedResponse) -> results.EmbedResult:
    """Decode the answer to one Embed.

    Raises:
        Internal: the answer contradicts itself; so for the other answers to batches.
    """
    if message.vectors.rows != len(message.sources):
        raise Internal(f"the answer holds {message.vectors.rows} vectors and {len(message.sources)} sources")
    return results.EmbedResult(
        packed=_vectors(message.vectors),
        sources=_sources(message.sources),
        failures=_failures(message.errors),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
        segments={
            entry.index: results.VideoSegments(
                packed=_vectors(entry.vectors),
                start_s=np.array(entry.start_seconds),
                end_s=np.array(entry.end_seconds),
            )
            for entry in message.segments
        },
        additional=tuple(_embedded_in(further) for further in message.additional),
    )


def _embedded_in(message: embedding_service_pb2.SpaceVectors) -> results.EmbedResult:
    if message.vectors.rows != len(message.sources):
        raise Internal(f"the answer holds {message.vectors.rows} vectors and {len(message.sources)} sources")
    return results.EmbedResult(
        packed=_vectors(message.vectors),
        sources=_sources(message.sources),
        failures=_failures(message.errors),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
    )


def lookup_result(message: embedding_service_pb2.LookupResponse) -> results.LookupResult:
    """Decode the answer to one Lookup."""
    return results.LookupResult(
        packed=_vectors(message.vectors),
        wanted=list(message.wanted),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
        additional=tuple(
            results.LookupResult(
                packed=_vectors(further.vectors),
                wanted=list(further.wanted),
                provenance=_provenance(further.provenance),
                cost=_cost(further.cost),
            )
            for further in message.additional
        ),
    )


def predict_result(
    message: head_service_pb2.PredictResponse, refs: tuple[str, ...], layouts: LayoutCache
) -> heads.PredictResult:
    """Decode the answer to one Predict that asked `refs`; a new layout is kept in `layouts`."""
    rows = len(message.sources)
    predictions: Sequence[heads.HeadPrediction]
    if message.HasField("packed"):
        predictions = _packed_predictions(message.packed, rows, refs, layouts)
    else:
        predictions = tuple(_prediction(head, rows) for head in message.results)
    return heads.PredictResult(
        predictions=predictions,
        packed=_vectors(message.vectors) if message.HasField("vectors") else None,
        sources=_sources(message.sources),
        failures=_failures(message.errors),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
        bridges=tuple(
            heads.BridgeUse(
                use.bridge,
                tuple(use.heads),
                use.head_space_digest,
                {name: figure_of(figure) for name, figure in use.losses.items()},
            )
            for use in message.bridges
        ),
    )


def retrieve_result(message: head_service_pb2.RetrieveResponse) -> heads.RetrieveResult:
    """Decode the answer to one Retrieve."""
    if len(message.results) != len(message.sources):
        raise Internal(f"the answer holds {len(message.results)} results and {len(message.sources)} sources")
    return heads.RetrieveResult(
        results=[hits(found.hits) for found in message.results],
        sources=_sources(message.sources),
        failures=_failures(message.errors),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
    )


def recommend_result(message: head_service_pb2.RecommendResponse) -> heads.RecommendResult:
    """Decode the answer to one Recommend."""
    return heads.RecommendResult(
        hits=hits(message.result.hits),
        sources=_sources(message.sources),
        failures=_failures(message.errors),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
    )


def score_result(message: head_service_pb2.ScoreResponse) -> heads.ScoreResult:
    """Decode the answer to one Score."""
    return heads.ScoreResult(
        scores=np.frombuffer(message.scores, "<f4"),
        scale=message.scale,
        failures=_failures(message.errors),
        provenance=_provenance(message.provenance),
        cost=_cost(message.cost),
    )


def answer_piece(message: head_service_pb2.AnswerResponse) -> heads.AnswerPiece:
    """Decode one piece of an answer."""
    return heads.AnswerPiece(
        text=message.text,
        citations=hits(message.citations),
        end=_ANSWER_ENDS.get(message.end),
        tokens=message.tokens,
    )


def hits(messages: Iterable[head_service_pb2.Hit]) -> list[heads.Hit]:
    """Decode found items."""
    return [heads.Hit(hit.id, hit.score, MessageToDict(hit.metadata), hit.text) for hit in messages]


def head_list(message: head_service_pb2.ListHeadsResponse) -> heads.HeadList:
    """Decode the heads and indexes."""
    return heads.HeadList(
        heads=tuple(
            heads.HeadInfo(
                head=head.head,
                version=head.version,
                kind=_HEAD_KINDS.get(head.kind, heads.HeadKind.UNSPECIFIED),
                labels=tuple(head.labels),
                space_digest=head.space_digest,
                aliases=tuple(head.aliases),
                created_at=time_or_none(head, "created_at"),
                metrics=dict(head.metrics),
            )
            for head in message.heads
        ),
        indexes=tuple(
            heads.IndexInfo(index.index, index.items, index.space_digest, index.kind) for index in message.indexes
        ),
    )


def space_list(message: admin_service_pb2.ListSpacesResponse) -> reports.SpaceList:
    """Decode the spaces and aliases."""
    return reports.SpaceList(
        spaces=tuple(
            reports.SpaceInfo(
                name=space.name,
                provenance=_provenance(space.provenance),
                dim=space.dim,
                modalities=tuple(space.modalities),
                max_tokens=space.max_tokens,
                device=space.device,
                identity=dict(space.identity),
                state=_SPACE_STATES.get(space.state, reports.SpaceState.UNSPECIFIED),
            )
            for space in message.spaces
        ),
        aliases=dict(message.aliases),
        unserved=tuple(
            reports.UnservedSpace(
                space.name, _SPACE_STATES.get(space.state, reports.SpaceState.UNSPECIFIED), space.reason
            )
            for space in message.unserved
        ),
    )


def previous_space(message: admin_service_pb2.SetAliasResponse) -> str:
    """Decode the space that an alias pointed at before; empty if it is new."""
    return message.previous_space


def limits(message: admin_service_pb2.GetLimitsResponse) -> dict[str, int]:
    """Decode the limits, by the name of their setting."""
    return dict(message.limits)


def cache_stats(message: admin_service_pb2.GetCacheStatsResponse) -> reports.CacheStats:
    """Decode the cache's state."""
    return reports.CacheStats(
        entries=message.entries,
        size_bytes=message.size_bytes,
        limit_bytes=message.limit_bytes,
        hits=message.hits,
        misses=message.misses,
        corrupt_records=message.corrupt_records,
        pending_write_bytes=message.pending_write_bytes,
        dropped_writes=message.dropped_writes,
        path=message.path,
        started_at=time_or_none(message, "started_at"),
    )


def _vectors(message: content_pb2.Vectors) -> PackedVectors:
    dtype = _DTYPES.get(message.dtype)
    if dtype is None:
        raise Internal(f"the answer's vectors have dtype {message.dtype}, which this client does not know")
    return unpack_vectors(message.data, message.scales, dtype=dtype, rows=message.rows, dim=message.dim)


def _sources(numbers: Sequence[int]) -> list[results.ItemSource]:
    return [_SOURCES.get(number, results.ItemSource.UNSPECIFIED) for number in numbers]


def _failures(messages: Iterable[content_pb2.ItemError]) -> list[results.ItemFailure]:
    failures = []
    for message in messages:
        details = details_from_status(message.status)
        failure = results.ItemFailure(
            message.index, details.code, details.reason, message.status.message, details.metadata
        )
        failures.append(failure)
    return failures


def _provenance(message: content_pb2.Provenance) -> figures.Provenance:
    return figures.Provenance(message.space, message.space_digest, message.model, message.numerics)


def _cost(message: content_pb2.Cost) -> figures.Cost:
    timings = message.timings
    return figures.Cost(
        device_time=figure_or_none(message, "device_time"),
        energy=figure_or_none(message, "energy"),
        device_time_saved=figure_or_none(message, "device_time_saved"),
        timings=figures.Timings(
            timings.total_s,
            timings.lookup_s,
            timings.queue_s,
            timings.prepare_s,
            timings.encode_s,
            timings.store_s,
            timings.heads_s,
        ),
        batch=_batch_shape(message.batch) if message.HasField("batch") else None,
    )


def _batch_shape(message: content_pb2.BatchShape) -> figures.BatchShape:
    return figures.BatchShape(message.items, message.units, message.padding_efficiency)


def figure_or_none(message: Message, name: str) -> figures.Figure | None:
    """Decode a message's figure, if it is there."""
    return figure_of(getattr(message, name)) if message.HasField(name) else None


def figure_of(figure: content_pb2.Figure) -> figures.Figure:
    """Decode a figure."""
    basis = _BASES.get(figure.basis, figures.Basis.UNSPECIFIED)
    return figures.Figure(figure.value, basis, figure.unit, figure.source, figure.boundary)


def time_or_none(message: Message, name: str) -> datetime | None:
    """Decode a message's time, if it is there."""
    if not message.HasField(name):
        return None
    timestamp: Timestamp = getattr(message, name)
    return timestamp.ToDatetime(tzinfo=UTC)


def _prediction(message: head_service_pb2.HeadResult, rows: int) -> heads.HeadPrediction:
    labels = tuple(message.labels)
    columns = message.columns
    scores = _matrix(message.scores, np.dtype("<f4"), rows, columns)
    if message.label_indices:
        label_indices = _matrix(message.label_indices, np.dtype("<u4"), rows, columns)
    else:
        label_indices = np.broadcast_to(np.arange(columns, dtype=np.uint32), (rows, columns))
    return heads.HeadPrediction(
        head=message.head,
        version=message.version,
        kind=_HEAD_KINDS.get(message.kind, heads.HeadKind.UNSPECIFIED),
        labels=labels,
        scores=scores,
        label_indices=label_indices,
        thresholds=np.frombuffer(message.thresholds, "<f4") if message.thresholds else None,
        compute_time=figure_or_none(message, "compute_time"),
    )


def _packed_predictions(
    message: head_service_pb2.PackedResults, rows: int, refs: tuple[str, ...], layouts: LayoutCache
) -> PackedPredictions:
    parts = _parts(message.layout) if message.layout else layouts.held(refs, message.layout_digest)
    if parts is None or len(parts) != len(refs):
        raise Internal(f"the answer's layout {message.layout_digest.hex()[:16]} of {len(refs)} heads is not known here")
    if message.layout:
        layouts.keep(refs, message.layout_digest, parts)
    matrix = _matrix(message.scores, np.dtype("<f4"), parts[-1].rows.stop, rows)
    return PackedPredictions(matrix, parts, _matrix(message.compute_seconds, np.dtype("<f4"), len(parts), 1)[:, 0])


def _parts(layout: Iterable[head_service_pb2.HeadLayout]) -> tuple[HeadPart, ...]:
    parts, start = [], 0
    for head in layout:
        labels = tuple(head.labels)
        kind = _HEAD_KINDS.get(head.kind, heads.HeadKind.UNSPECIFIED)
        rows = slice(start, start + len(labels))
        parts.append(HeadPart(head.head, head.version, kind, labels, tuple(head.thresholds), rows))
        start += len(labels)
    return tuple(parts)


def _matrix(data: bytes, dtype: np.dtype[Any], rows: int, columns: int) -> npt.NDArray[Any]:
    expected = rows * columns * dtype.itemsize
    if len(data) != expected:
        raise Internal(f"{rows} x {columns} scores take {expected} bytes; the answer holds {len(data)}")
    return np.frombuffer(data, dtype).reshape(rows, columns)
