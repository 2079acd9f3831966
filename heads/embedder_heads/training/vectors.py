"""Gets vectors of contents from a running service, whose cache makes the second head on the same data free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from embedder_client import Client, VideoSegments
from embedder_client.options import EmbedOptions
from embedder_heads.errors import TrainingDataInvalid
from embedder_heads.kinds import Floats
from embedder_heads.training.table import Content

_CHUNK = 256


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """Vectors of contents, all of one space.

    Attributes:
        vectors: (n, dim) float32; the rows of `failures` are zero.
        failures: position to reason, of contents that could not be embedded.
        space_digest: the vectors' space, 32 bytes.
        computed: contents that the service encoded for this; the others it knew.
        segments: position of each video to its segments, where they were asked for.
    """

    vectors: Floats
    failures: dict[int, str]
    space_digest: bytes
    computed: int
    segments: Mapping[int, VideoSegments] = field(default_factory=dict)


def embed_contents(
    service: Client,
    contents: Sequence[Content],
    *,
    task: str,
    space: str = "",
    segment_seconds: float | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Embedded:
    """Embed contents in the bulk lane, in chunks.

    Args:
        service: an open client.
        contents: what to embed, one at least.
        task: what the savings report counts this under.
        space: space or alias; empty means the service's default.
        segment_seconds: also get the segments of videos, of this length; 0 means the service's; None gets none.
        on_progress: told how many contents are done.
    Raises:
        TrainingDataInvalid: every content failed, or the service changed its space on the way.
    """
    parts: list[Floats] = []
    failures: dict[int, str] = {}
    segments: dict[int, VideoSegments] = {}
    digests: set[bytes] = set()
    computed = 0
    options: EmbedOptions = {"lane": "bulk", "task": task, "space": space, "dtype": "float32"}
    if segment_seconds is not None:
        options["segment_seconds"] = segment_seconds
    for start in range(0, len(contents), _CHUNK):
        result = service.embed(contents[start : start + _CHUNK], **options)
        segments.update({start + index: found for index, found in result.segments.items()})
        parts.append(np.asarray(result.vectors, np.float32))
        failures.update({start + failure.index: failure.message for failure in result.failures})
        digests.add(result.provenance.space_digest)
        computed += sum(source == "computed" for source in result.sources)
        on_progress(min(start + _CHUNK, len(contents)))
    if len(digests) != 1:
        raise TrainingDataInvalid(f"the vectors are of {len(digests)} spaces; train when the service keeps to one")
    if len(failures) == len(contents):
        raise TrainingDataInvalid(f"no content could be embedded; the first: {failures[0]}")
    return Embedded(np.concatenate(parts), failures, digests.pop(), computed, segments)
