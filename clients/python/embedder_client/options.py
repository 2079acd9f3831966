"""The keyword arguments of calls, declared once for both clients; all may be left out.

They are `TypedDict`s, so that an editor and mypy check `client.embed(..., dtype="int8")` (PEP 692).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal, TypedDict

from embedder_client.contents import ContentLike
from embedder_client.filters import FilterLike, Rerank


class TimeOption(TypedDict, total=False):
    """How long to wait."""

    timeout_s: float | None
    """Time for the whole call; by default the settings' time for each part that the call is split into."""


class AliasOptions(TimeOption, total=False):
    """Options of `set_alias`."""

    expected_space: str | None
    """Move the alias only if it points at this space now, "" if it must be new; None, the default, moves it from anywhere."""


class TaskOptions(TimeOption, total=False):
    """Who asks."""

    task: str
    """The task that asks, such as "ranking"; the savings report counts by it."""


class WorkOptions(TaskOptions, total=False):
    """Who asks, and how urgently."""

    lane: str
    """"interactive" (the default: somebody waits) or "bulk" (takes what interactive work leaves)."""


class VectorOptions(TaskOptions, total=False):
    """How vectors come back."""

    space: str
    """Space or alias, such as "default@1"; empty means the service's default space."""
    dim: int
    """Leading dimensions to keep, re-normalized; 0 means all."""
    dtype: str
    """"float16" (the default), "float32", "int8" or "binary"."""


class LookupOptions(VectorOptions, total=False):
    """How vectors come back, and how posts are fused."""

    fusion: str
    """"mean", or a trained fusion such as "topic@2"; empty means the service's setting."""
    field_weights: Mapping[str, float]
    """Weights of a post's fields in the mean, by name; a field that is not named weighs 1. Not together with `fusion`."""
    additional_spaces: Iterable[str]
    """Further spaces or aliases that the same contents are answered in, such as the one that a migration goes to."""


class EmbedStreamOptions(LookupOptions, WorkOptions, total=False):
    """Options of `embed_stream`; `timeout_s` is the longest wait for one answer, and the lane is "bulk" by default."""

    durable: bool
    """Wait until the vectors are committed to the cache before answering."""
    segment_seconds: float | None
    """Also return the vectors of each video's segments of this length; 0 means the service's; None, the default, none."""


class EmbedOptions(EmbedStreamOptions, total=False):
    """Options of `embed`."""

    texts: Iterable[str]
    """Texts, after `contents`."""
    images: Iterable[bytes]
    """Image files, after `contents` and `texts`."""
    by_hash: bool
    """Look the contents up by hash first, and send only those that are not held."""


class PredictOptions(VectorOptions, WorkOptions, total=False):
    """Options of `predict`."""

    texts: Iterable[str]
    """Texts, after `contents`."""
    images: Iterable[bytes]
    """Image files, after `contents` and `texts`."""
    hashes: bytes | Iterable[bytes]
    """Contents by hash, instead of contents."""
    top_k: int
    """Labels to return for each content, best first, unless `heads` says it for each head; 0 means every label."""
    include_vectors: bool
    """Return the vectors too."""
    packed_scores: bool
    """Bring every head's scores as one block: for very many heads, whose labels then cross the wire once. Not with `top_k`."""


class RetrieveOptions(WorkOptions, total=False):
    """Options of `retrieve`."""

    top_k: int
    """Items to return for each query; 0 means 10."""
    mode: Literal["dense", "lexical", "hybrid"]
    """By vectors (default), by words, or by both; words need an index that keeps its texts."""
    filters: Mapping[str, FilterLike]
    """Metadata field to what it must be: a value, several of which one must fit, or a `NumberRange` of numbers."""
    rerank: Rerank
    """Ranks what was found again."""
    include_text: bool
    """Return the items' texts, where the index keeps them."""


class RecommendOptions(WorkOptions, total=False):
    """Options of `recommend`; what the user has seen stands oldest first."""

    history_ids: Iterable[str]
    """Ids of the index that the user has seen."""
    history: Iterable[ContentLike]
    """Contents that the user has seen; they count as more recent than `history_ids`."""
    exclude_ids: Iterable[str]
    """Ids that must not come back, beside those of the history."""
    user_id: str
    """The user, as the recommender's training file named them; what they had seen then counts as older than `history_ids`."""
    filters: Mapping[str, FilterLike]
    """What the items' metadata must be, by field: a value, a list of values, or a `NumberRange`."""
    top_k: int
    """Items to return; 0 means 10."""


class ScoreOptions(WorkOptions, total=False):
    """Options of `score`: whose taste it is, and the candidates by `hashes` or by `ids`."""

    hashes: bytes | Iterable[bytes]
    """The candidates by content hash."""
    ids: Iterable[str]
    """The candidates as ids of `index`."""
    index: str
    """An index: users, history ids and candidate ids are its own, and its trained recommender scores where it has one."""
    user_id: str
    """The user, as the recommender's training file named them."""
    history_ids: Iterable[str]
    """Ids of the index that the user has seen, oldest first."""
    history_hashes: bytes | Iterable[bytes]
    """Contents that the user has seen, by hash, oldest first; they count as more recent than `history_ids`."""
    space: str
    """Space or alias; empty means the service's default, or the index's own."""


class AnswerOptions(TaskOptions, total=False):
    """Options of `answer`; `timeout_s` is for the whole answer."""

    top_k: int
    """Passages to read; 0 means 4."""
    max_tokens: int
    """Longest answer; 0 means 256."""
    mode: Literal["dense", "lexical", "hybrid"]
    """How passages are found; by default by both vectors and words where the index keeps texts."""
    filters: Mapping[str, FilterLike]
    """What the passages' metadata must be; see `RetrieveOptions`."""


class SavingsOptions(TimeOption, total=False):
    """Options of `savings`."""

    start: datetime | None
    """Start of the range, inclusive, with a time zone; None means from the beginning."""
    end: datetime | None
    """End of the range, exclusive, with a time zone; None means now."""
    group_by: str
    """What rows are made by: "task" (the default), "client", "space", "lane", "tenant", "head", or "" for the total alone."""
    task: str
    """Only this task."""
    client: str
    """Only this client."""
    tenant: str
    """Only this tenant, as callers name it with `ClientSettings.tenant`."""
    head: str
    """Only this head or index."""


class DeleteOptions(TimeOption, total=False):
    """Options of `delete`."""

    space: str
    """Space or alias; empty means every space."""


def check_options(declared: type[Any], options: Mapping[str, Any]) -> None:
    """Refuse keyword arguments that a call does not take, as Python itself would.

    Raises:
        TypeError: an argument is not declared; the message lists those that are.
    """
    allowed = declared.__optional_keys__
    unknown = sorted(options.keys() - allowed)
    if unknown:
        raise TypeError(f"unexpected keyword argument {unknown[0]!r}; the call takes {', '.join(sorted(allowed))}")
