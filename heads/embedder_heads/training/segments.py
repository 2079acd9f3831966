"""Videos in an index: one item for each segment, so that a query finds the moment and not the film alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from embedder_client import VideoSegments
from embedder_heads.index.metadata import Metadata
from embedder_heads.kinds import Floats
from embedder_heads.training.items import Items

VIDEO, START, END = "video", "start_s", "end_s"
"""Metadata of a segment: the id of its video, and its start (inclusive) and end (exclusive) in seconds."""


@dataclass(frozen=True, slots=True, eq=False)
class IndexRows:
    """What an index is built from.

    Attributes:
        vectors: (n, dim) float32.
        ids: theirs.
        metadata: what is kept beside them.
        texts: theirs, empty for those without one.
    """

    vectors: Floats
    ids: tuple[str, ...]
    metadata: tuple[Metadata, ...]
    texts: tuple[str, ...]


def index_rows(
    items: Items, vectors: Floats, segments: Mapping[int, VideoSegments], failures: Mapping[int, str]
) -> IndexRows:
    """Leave out the items that failed, and put in the place of each video its segments.

    A segment's id is its video's, `#` and its number from 0; its metadata are its video's, and `video`, `start_s` and `end_s`.

    Args:
        items: what was embedded.
        vectors: (n, dim) float32, theirs.
        segments: position of each video to its segments; a video without is one item, as every other content.
        failures: position to reason, of the items that failed.
    """
    blocks: list[Floats] = []
    ids: list[str] = []
    metadata: list[Metadata] = []
    texts: list[str] = []
    for row, item_id in enumerate(items.ids):
        if row in failures:
            continue
        found = segments.get(row)
        if found is None:
            blocks.append(vectors[row][None])
            ids.append(item_id)
            metadata.append(items.metadata[row])
            texts.append(items.texts[row])
            continue
        blocks.append(found.float32())
        for number in range(len(found)):
            ids.append(f"{item_id}#{number}")
            times: Metadata = {VIDEO: item_id, START: float(found.start_s[number]), END: float(found.end_s[number])}
            metadata.append({**items.metadata[row], **times})
            texts.append(items.texts[row])
    return IndexRows(np.concatenate(blocks), tuple(ids), tuple(metadata), tuple(texts))
