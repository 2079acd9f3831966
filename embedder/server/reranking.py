"""Ranks what Retrieve found again: by exact cosines, or by a head's score on the items' stored vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from embedder.errors import InvalidRequest
from embedder.server.runtime import Runtime
from embedder.server.spaces import ServedSpace
from embedder_client.v1 import head_service_pb2 as pb
from embedder_heads.index.vector_index import IndexHit, VectorIndex


@dataclass(frozen=True, slots=True, eq=False)
class Reranker:
    """One call's way to rank again; nothing is embedded for it, since the index holds the items' vectors."""

    runtime: Runtime
    space: ServedSpace
    wanted: pb.Rerank

    def check(self) -> None:
        """Tell of a head or label that can't rank, before anything is computed.

        Raises:
            HeadNotFound, HeadSpaceMismatch: the head can't be asked.
            InvalidRequest: it has no such label.
        """
        if self.wanted.head:
            self._column(self.runtime.heads.snapshot.resolve(self.wanted.head, self.space.digest).manifest.labels)

    def rank(
        self, index: VectorIndex, hits: Sequence[IndexHit], query: npt.NDArray[np.float32], top_k: int
    ) -> list[IndexHit]:
        """Return the best `top_k` hits of a (dim,) query by their new score."""
        if not hits:
            return []
        vectors = index.vectors_of([hit.id for hit in hits])  # (m, dim)
        if self.wanted.head:
            [output] = self.runtime.heads.snapshot.predict(vectors, [self.wanted.head], self.space.digest)
            scores = output.scores[:, self._column(output.labels)]
        else:
            scores = vectors @ query
        order = np.argsort(-scores, kind="stable")[:top_k]
        return [replace(hits[place], score=float(scores[place])) for place in order]

    def _column(self, labels: Sequence[str]) -> int:
        label = self.wanted.label
        if label in labels:
            return list(labels).index(label)
        if not label and len(labels) == 1:
            return 0
        raise InvalidRequest(f"rerank.label={label!r}; head {self.wanted.head} has {', '.join(labels)}")
