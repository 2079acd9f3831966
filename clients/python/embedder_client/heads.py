"""What Predict, Retrieve, Recommend, Answer and ListHeads answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder_client.figures import Cost, Figure, Provenance
from embedder_client.results import BatchResult, ItemFailure
from embedder_client.vectors import PackedVectors


class HeadKind(StrEnum):
    """What a head's scores mean."""

    SINGLE_LABEL = "single_label"
    MULTI_LABEL = "multi_label"
    REGRESSION = "regression"
    UNSPECIFIED = "unspecified"


@dataclass(frozen=True, eq=False, kw_only=True)
class HeadPrediction:
    """What one head says about every content of a call.

    Attributes:
        head: the head's name.
        version: the one version that answered for every content.
        kind: what the scores mean.
        labels: the head's labels.
        scores: (n, columns) float32; columns are the labels, or the top k, best first. Rows of failed items are zero.
        label_indices: (n, columns) uint32: which label each score is of.
        thresholds: (labels,) float32: scores at or over it count as a yes; None for single-label heads.
        compute_time: the head's own time on this call.
    """

    head: str
    version: int
    kind: HeadKind
    labels: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    label_indices: npt.NDArray[np.uint32]
    thresholds: npt.NDArray[np.float32] | None
    compute_time: Figure | None

    def ranked(self, index: int) -> list[tuple[str, float]]:
        """Return the labels and scores of one content, best first."""
        scores, labels = self.scores[index], self.label_indices[index]  # (columns,)
        order = np.argsort(-scores, kind="stable")
        return [(self.labels[labels[column]], float(scores[column])) for column in order]


@dataclass(frozen=True, eq=False)
class BridgeUse:
    """A map from the vectors' space to that of some of the call's heads, which lets these answer at a measured loss.

    Attributes:
        bridge: the bridge, such as "default-2-to-1@1".
        heads: the heads that were served over it, such as "topic@3".
        head_space_digest: the space that these heads are of, 32 bytes.
        losses: what is lost by it, by name, on contents that the bridge did not learn from.
    """

    bridge: str
    heads: tuple[str, ...]
    head_space_digest: bytes
    losses: Mapping[str, Figure]


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictResult(BatchResult):
    """What several heads say about several contents.

    Attributes:
        predictions: one for each head, in the order of asking; with `packed_scores`, `embedder_client.layouts.PackedPredictions`.
        packed: the vectors, if asked for with `include_vectors`.
        bridges: the bridges that heads of another space were served over; empty where every head is of the vectors' space.
    """

    predictions: Sequence[HeadPrediction]
    packed: PackedVectors | None
    bridges: Sequence[BridgeUse] = ()

    @property
    def vectors(self) -> npt.NDArray[Any] | None:
        """The matrix as asked, see `EmbedResult.vectors`; None if it was not asked for."""
        return None if self.packed is None else self.packed.stored

    def __getitem__(self, head: str) -> HeadPrediction:
        """Return a head's prediction by its name, or by name and version ("topic@3"); of several, the first."""
        name, _, version = head.partition("@")
        for prediction in self.predictions:
            if prediction.head == name and (not version.isdecimal() or prediction.version == int(version)):
                return prediction
        raise KeyError(head)


@dataclass(frozen=True)
class Hit:
    """One found item: its id in the index, its score, and what the index holds beside the vector.

    The score is a cosine unless another way of ranking was asked for; higher is better. Numbers in `metadata` are floats, as in JSON.
    `text` is empty unless it was asked for and the index keeps it.
    """

    id: str
    score: float
    metadata: Mapping[str, Any]
    text: str = ""


@dataclass(frozen=True, eq=False, kw_only=True)
class RetrieveResult(BatchResult):
    """The items nearest to each query, best first; a failed query has none."""

    results: list[list[Hit]]


@dataclass(frozen=True, eq=False, kw_only=True)
class RecommendResult(BatchResult):
    """Items like those of a history, best first; `sources` and `failures` concern the history's contents."""

    hits: list[Hit]


@dataclass(frozen=True, eq=False, kw_only=True)
class ScoreResult:
    """How well candidates fit a query or user.

    Attributes:
        scores: (n,) float32, one a candidate, in the order of asking; higher is better, those of failed candidates are zero.
        scale: "cosine", or "logit" of a trained recommender.
        failures: the failed candidates, if any.
        provenance: which model made the vectors.
        cost: what the call cost.
    """

    scores: npt.NDArray[np.float32]
    scale: str
    failures: list[ItemFailure]
    provenance: Provenance
    cost: Cost

    def __len__(self) -> int:
        return len(self.scores)

    def ranked(self) -> list[int]:
        """Return the positions of the candidates that did not fail, best first."""
        failed = {failure.index for failure in self.failures}
        return [place for place in np.argsort(-self.scores, kind="stable").tolist() if place not in failed]


class AnswerEnd(StrEnum):
    """How an answer ended."""

    COMPLETE = "complete"
    TOKEN_LIMIT = "token_limit"
    TIME_LIMIT = "time_limit"
    NOT_IN_DOCUMENTS = "not_in_documents"


@dataclass(frozen=True)
class AnswerPiece:
    """The next words of an answer.

    Attributes:
        text: the words; join those of all pieces.
        citations: the passages that the answer rests on, on the last piece.
        end: how the answer ended, on the last piece; None before.
        tokens: tokens that were generated, on the last piece.
    """

    text: str
    citations: list[Hit]
    end: AnswerEnd | None = None
    tokens: int = 0


@dataclass(frozen=True)
class HeadInfo:
    """One version of a head."""

    head: str
    version: int
    kind: HeadKind
    labels: tuple[str, ...]
    space_digest: bytes
    aliases: tuple[str, ...]
    created_at: datetime | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class IndexInfo:
    """One index."""

    index: str
    items: int
    space_digest: bytes
    kind: str


@dataclass(frozen=True)
class HeadList:
    """The heads and indexes that can be asked."""

    heads: tuple[HeadInfo, ...]
    indexes: tuple[IndexInfo, ...]
