"""Scores of many candidates for one query or user, for the wire: hashes or ids in, one number each out."""

from __future__ import annotations

import numpy as np

from embedder.engine.contents import EmbedOutcome
from embedder.errors import EmbedderError, InvalidContent, InvalidRequest
from embedder.server.contents import WireContents, check_hashes, items_of
from embedder.server.runtime import Runtime
from embedder_client.content_hash import HASH_BYTES
from embedder_client.v1 import content_pb2
from embedder_client.v1 import head_service_pb2 as pb
from embedder_heads.index.vector_index import VectorIndex
from embedder_heads.kinds import Floats
from embedder_heads.recommendation.more_like_this import history_profile
from embedder_heads.recommendation.recommender import Recommender, seen_by, traits_of

COSINE, LOGIT = "cosine", "logit"


class Scoring:
    """One Score call: which contents it needs, and how their vectors become scores."""

    def __init__(self, runtime: Runtime, request: pb.ScoreRequest, index: VectorIndex | None) -> None:
        """Check a call.

        Args:
            index: the index that the call names, if it names one.
        Raises:
            InvalidRequest: it gives no or two of the query and the user, no or two of the kinds of candidates, or ids without an index.
            UserNotFound: the recommender does not know the user.
        """
        self._request, self._index = request, index
        self._has_query = request.HasField("query")
        has_user = bool(request.user_id or request.history_ids or request.history_hashes)
        if self._has_query == has_user:
            given = "both a query and a user" if has_user else "neither a query nor a user"
            raise InvalidRequest(f"the call gives {given}; give query, or any of user_id, history_ids, history_hashes")
        if bool(request.candidate_hashes) == bool(request.candidate_ids):
            raise InvalidRequest("give the candidates once, as candidate_hashes or as candidate_ids, and one at least")
        if index is None and (request.user_id or request.history_ids or request.candidate_ids):
            raise InvalidRequest("user_id, history_ids and candidate_ids are of an index; name it in `index`")
        self._limit = runtime.settings.max_items_per_call
        if len(request.candidate_ids) > self._limit:
            raise InvalidRequest(f"candidate_ids has {len(request.candidate_ids)} entries; the limit is {self._limit}")
        self._recommender: Recommender | None = None if index is None else runtime.indexes.recommender_of(index)
        self._traits = traits_of(self._recommender, request.user_id)
        self._history_ids = [*seen_by(self._recommender, request.user_id), *request.history_ids]

    def contents(self) -> WireContents | None:
        """Return what must be embedded: the query or the history, then the candidates; None when all of it is in the index."""
        contents = [self._request.query] if self._has_query else []
        for field in ("history_hashes", "candidate_hashes"):
            packed: bytes = getattr(self._request, field)
            if packed:
                check_hashes(packed, max_items=self._limit, field=field)
                starts = range(0, len(packed), HASH_BYTES)
                contents += [content_pb2.Content(content_hash=packed[at : at + HASH_BYTES]) for at in starts]
        return items_of(contents, max_items=2 * self._limit + 1, field="candidates") if contents else None

    def run(self, outcome: EmbedOutcome) -> tuple[Floats, str, dict[int, EmbedderError]]:
        """Score the candidates.

        Args:
            outcome: of `contents`.
        Returns:
            (candidates,) float32, what they are, and the failures by candidate.
        Raises:
            EmbedderError: the query failed, so nothing can be scored.
        """
        vectors = outcome.vectors.astype(np.float32)
        first = 1 if self._has_query else len(self._request.history_hashes) // HASH_BYTES
        if self._has_query and 0 in outcome.failures:
            raise outcome.failures[0]
        history = vectors[[row for row in range(first) if row not in outcome.failures]]
        failures = {row - first: error for row, error in outcome.failures.items() if row >= first}
        rows: list[int] = []
        if self._request.candidate_ids:
            assert self._index is not None
            rows = self._index.rows_of(self._request.candidate_ids)
            failures = {
                place: InvalidContent(f"id {self._request.candidate_ids[place]!r} is not in the index")
                for place, row in enumerate(rows)
                if row < 0
            }
            rows = [max(row, 0) for row in rows]
        scores, scale = self._scores(history, rows, None if rows else vectors[first:])
        scores[list(failures)] = 0.0
        return scores, scale, failures

    def _scores(self, history: Floats, rows: list[int], candidates: Floats | None) -> tuple[Floats, str]:
        """Score by the trained recommender where there is one and a user, else by the cosine to the query or the history's profile."""
        if self._recommender is not None and not self._has_query:
            scores = self._recommender.score(
                history_ids=self._history_ids,
                history_vectors=history,
                traits=self._traits,
                rows=rows,
                vectors=candidates,
            )
            return scores, LOGIT
        if self._index is not None:
            known = [item_id for item_id in self._history_ids if item_id in self._index]
            if known:
                history = np.concatenate([self._index.vectors_of(known), history])
            if candidates is None:
                candidates = self._index.vectors_of([self._index.id_of(row) for row in rows])
        if not len(history) or candidates is None:
            raise InvalidRequest("nothing of the history is known here; give an id of the index or a cached content")
        profile = history[0] if self._has_query else history_profile(history)
        product: Floats = candidates @ profile
        return product, COSINE
