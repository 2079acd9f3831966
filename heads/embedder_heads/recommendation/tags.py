"""Tags of an item from its metadata: what a recommender knows of it beside its content."""

from __future__ import annotations

import math

from embedder_heads.index.metadata import Metadata


def tags_of(metadata: Metadata) -> tuple[str, ...]:
    """Turn metadata into tags.

    A text or each text of a list is a tag; a number is two, itself and its ten, so that a rare year still has its decade. Training
    keeps the tags that several items share, so titles and the like fall away.
    """
    tags: list[str] = []
    for field, value in metadata.items():
        if isinstance(value, str):
            tags.append(f"{field}={value}")
        elif isinstance(value, int | float):
            if math.isfinite(value):
                tags += [f"{field}={value:g}", f"{field}~{math.floor(value / 10) * 10:g}"]
        else:
            tags += [f"{field}={entry}" for entry in value]
    return tuple(tags)
