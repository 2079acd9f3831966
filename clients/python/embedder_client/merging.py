"""Parts of a split call to one result: rows in order, positions shifted, costs summed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np

from embedder_client.errors import ErrorDetails, FailedPrecondition, Internal
from embedder_client.figures import common_provenance, sum_costs, sum_figures
from embedder_client.heads import HeadPrediction, PredictResult, RetrieveResult
from embedder_client.layouts import PackedPredictions, join_packed
from embedder_client.results import (
    EmbedResult,
    ItemSource,
    LookupResult,
    VideoSegments,
    move_failure,
    shift_failures,
)
from embedder_client.vectors import join_vectors, take_rows

Batch = TypeVar("Batch", EmbedResult, LookupResult, PredictResult, RetrieveResult)
Part = TypeVar("Part", EmbedResult, LookupResult)


def merge_embeds(parts: Sequence[EmbedResult]) -> EmbedResult:
    """Join the answers to a call's Embeds.

    Raises:
        FailedPrecondition: the space changed between the parts.
    """
    if len(parts) == 1:
        return parts[0]
    return EmbedResult(
        packed=join_vectors([part.packed for part in parts]),
        sources=[source for part in parts for source in part.sources],
        failures=shift_failures([part.failures for part in parts], [len(part) for part in parts]),
        provenance=common_provenance([part.provenance for part in parts]),
        cost=sum_costs([part.cost for part in parts]),
        segments=_shift_segments(parts),
        additional=[merge_embeds(further) for further in _by_space([part.additional for part in parts])],
    )


def place_embeds(pieces: Sequence[tuple[Sequence[int], EmbedResult]], items: int) -> EmbedResult:
    """Join answers about contents at any positions; of several answers about one position, the last counts.

    Args:
        pieces: positions in the call, and the answer about the contents there, in that order.
        items: how many contents the call has; each is in a piece at least.

    Raises:
        FailedPrecondition: the space changed between the parts.
    """
    joined = merge_embeds([answer for _, answer in pieces])
    rows = {position: row for row, position in enumerate(p for positions, _ in pieces for p in positions)}
    return take_items(joined, [rows[position] for position in range(items)])


def take_items(joined: Batch, rows: list[int]) -> Batch:
    """Return the answer about the contents at these rows, in this order; rows that are not named are left out."""
    place = {row: position for position, row in enumerate(rows)}
    changes: dict[str, Any] = {}
    if isinstance(joined, LookupResult):
        changes["wanted"] = sorted(place[row] for row in joined.wanted if row in place)
    else:
        changes["sources"] = [joined.sources[row] for row in rows]
        moved = [move_failure(failure, place[failure.index]) for failure in joined.failures if failure.index in place]
        changes["failures"] = sorted(moved, key=lambda failure: failure.index)
    if isinstance(joined, EmbedResult):
        changes["segments"] = {place[row]: found for row, found in joined.segments.items() if row in place}
    if isinstance(joined, EmbedResult):
        changes["additional"] = [take_items(further, rows) for further in joined.additional]
    if isinstance(joined, LookupResult):
        changes["additional"] = [take_items(further, rows) for further in joined.additional]
    if isinstance(joined, PredictResult):
        changes["predictions"] = _take_contents(joined.predictions, rows)
    if isinstance(joined, RetrieveResult):
        changes["results"] = [joined.results[row] for row in rows]
    elif joined.packed is not None:
        changes["packed"] = take_rows(joined.packed, rows)
    return replace(joined, **changes)


def _take_contents(predictions: Sequence[HeadPrediction], rows: list[int]) -> Sequence[HeadPrediction]:
    if isinstance(predictions, PackedPredictions):
        return predictions.take_contents(rows)
    return tuple(
        replace(prediction, scores=prediction.scores[rows], label_indices=prediction.label_indices[rows])
        for prediction in predictions
    )


def as_embed(held: LookupResult) -> EmbedResult:
    """Return a look-up as the answer about what it found; the rows of what is wanted have no source."""
    sources = [ItemSource.CACHE] * len(held)
    for position in held.wanted:
        sources[position] = ItemSource.UNSPECIFIED
    return EmbedResult(
        packed=held.packed,
        sources=sources,
        failures=[],
        provenance=held.provenance,
        cost=held.cost,
        additional=[as_embed(further) for further in held.additional],
    )


def _shift_segments(parts: Sequence[EmbedResult]) -> dict[int, VideoSegments]:
    shifted: dict[int, VideoSegments] = {}
    start = 0
    for part in parts:
        shifted |= {start + index: segments for index, segments in part.segments.items()}
        start += len(part)
    return shifted


def merge_lookups(parts: Sequence[LookupResult]) -> LookupResult:
    """Join the answers to a call's Lookups.

    Raises:
        FailedPrecondition: the space changed between the parts.
    """
    if len(parts) == 1:
        return parts[0]
    wanted: list[int] = []
    start = 0
    for part in parts:
        wanted += [start + position for position in part.wanted]
        start += len(part)
    return LookupResult(
        packed=join_vectors([part.packed for part in parts]),
        wanted=wanted,
        provenance=common_provenance([part.provenance for part in parts]),
        cost=sum_costs([part.cost for part in parts]),
        additional=[merge_lookups(further) for further in _by_space([part.additional for part in parts])],
    )


def _by_space(parts: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """Gather each further space's answers from the parts of a call.

    Raises:
        Internal: a part answers for fewer spaces than another.
    """
    if len({len(part) for part in parts}) > 1:
        raise Internal("the parts of one call came back with different numbers of spaces")
    return [list(answers) for answers in zip(*parts, strict=True)]


def merge_predicts(parts: Sequence[PredictResult]) -> PredictResult:
    """Join the answers to a call's Predicts.

    Raises:
        FailedPrecondition: the space, or a head's version, changed between the parts.
    """
    if len(parts) == 1:
        return parts[0]
    if len({len(part.predictions) for part in parts}) > 1:
        raise Internal("the parts of one call came back with different numbers of heads")
    packed = [part.packed for part in parts if part.packed is not None]
    return PredictResult(
        predictions=join_packed([part.predictions for part in parts])
        or tuple(_join_predictions(pieces) for pieces in zip(*(part.predictions for part in parts), strict=True)),
        packed=join_vectors(packed) if packed else None,
        sources=[source for part in parts for source in part.sources],
        failures=shift_failures([part.failures for part in parts], [len(part) for part in parts]),
        provenance=common_provenance([part.provenance for part in parts]),
        cost=sum_costs([part.cost for part in parts]),
        bridges=parts[0].bridges,
    )


def merge_retrieves(parts: Sequence[RetrieveResult]) -> RetrieveResult:
    """Join the answers to a call's Retrieves.

    Raises:
        FailedPrecondition: the space changed between the parts.
    """
    if len(parts) == 1:
        return parts[0]
    return RetrieveResult(
        results=[found for part in parts for found in part.results],
        sources=[source for part in parts for source in part.sources],
        failures=shift_failures([part.failures for part in parts], [len(part) for part in parts]),
        provenance=common_provenance([part.provenance for part in parts]),
        cost=sum_costs([part.cost for part in parts]),
    )


def _join_predictions(pieces: Sequence[HeadPrediction]) -> HeadPrediction:
    first = pieces[0]
    for piece in pieces[1:]:
        if (piece.head, piece.version, piece.labels) != (first.head, first.version, first.labels):
            raise FailedPrecondition(
                f"head {first.head} changed during the call, from {first.version} to {piece.version}: ask again",
                ErrorDetails(reason="HEAD_CHANGED", domain="embedder_client"),
            )
    return HeadPrediction(
        head=first.head,
        version=first.version,
        kind=first.kind,
        labels=first.labels,
        scores=np.concatenate([piece.scores for piece in pieces]),
        label_indices=np.concatenate([piece.label_indices for piece in pieces]),
        thresholds=first.thresholds,
        compute_time=sum_figures([piece.compute_time for piece in pieces]),
    )
