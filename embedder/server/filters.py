"""Filters off the wire."""

from __future__ import annotations

from collections.abc import Iterable

from embedder.errors import InvalidRequest
from embedder_client.v1 import head_service_pb2 as pb
from embedder_heads.index.filters import Filter, make_filter


def filters_of(messages: Iterable[pb.MetadataFilter]) -> dict[str, Filter]:
    """Read a call's filters, by field.

    Raises:
        InvalidRequest: a field is named twice.
        QueryInvalid: a filter is none, or several things at once.
    """
    filters: dict[str, Filter] = {}
    for message in messages:
        if message.field in filters:
            raise InvalidRequest(f"field {message.field!r} is filtered twice; give one filter a field")
        bounds = message.range
        filters[message.field] = make_filter(
            message.field,
            texts=message.texts,
            numbers=message.numbers,
            low=bounds.low if bounds.HasField("low") else None,
            high=bounds.high if bounds.HasField("high") else None,
        )
    return filters
