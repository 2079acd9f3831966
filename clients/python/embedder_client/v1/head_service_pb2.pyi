import datetime

from embedder_client.v1 import content_pb2 as _content_pb2
from embedder_client.v1 import embedding_service_pb2 as _embedding_service_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HeadKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEAD_KIND_UNSPECIFIED: _ClassVar[HeadKind]
    HEAD_KIND_SINGLE_LABEL: _ClassVar[HeadKind]
    HEAD_KIND_MULTI_LABEL: _ClassVar[HeadKind]
    HEAD_KIND_REGRESSION: _ClassVar[HeadKind]

class RetrievalMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RETRIEVAL_MODE_UNSPECIFIED: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_DENSE: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_LEXICAL: _ClassVar[RetrievalMode]
    RETRIEVAL_MODE_HYBRID: _ClassVar[RetrievalMode]

class AnswerEnd(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ANSWER_END_UNSPECIFIED: _ClassVar[AnswerEnd]
    ANSWER_END_COMPLETE: _ClassVar[AnswerEnd]
    ANSWER_END_TOKEN_LIMIT: _ClassVar[AnswerEnd]
    ANSWER_END_TIME_LIMIT: _ClassVar[AnswerEnd]
    ANSWER_END_NOT_IN_DOCUMENTS: _ClassVar[AnswerEnd]
HEAD_KIND_UNSPECIFIED: HeadKind
HEAD_KIND_SINGLE_LABEL: HeadKind
HEAD_KIND_MULTI_LABEL: HeadKind
HEAD_KIND_REGRESSION: HeadKind
RETRIEVAL_MODE_UNSPECIFIED: RetrievalMode
RETRIEVAL_MODE_DENSE: RetrievalMode
RETRIEVAL_MODE_LEXICAL: RetrievalMode
RETRIEVAL_MODE_HYBRID: RetrievalMode
ANSWER_END_UNSPECIFIED: AnswerEnd
ANSWER_END_COMPLETE: AnswerEnd
ANSWER_END_TOKEN_LIMIT: AnswerEnd
ANSWER_END_TIME_LIMIT: AnswerEnd
ANSWER_END_NOT_IN_DOCUMENTS: AnswerEnd

class HeadSelector(_message.Message):
    __slots__ = ("head", "top_k")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    head: str
    top_k: int
    def __init__(self, head: _Optional[str] = ..., top_k: _Optional[int] = ...) -> None: ...

class PredictRequest(_message.Message):
    __slots__ = ("contents", "content_hashes", "heads", "options", "include_vectors", "lane", "task", "head_refs", "known_layout")
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASHES_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_VECTORS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    HEAD_REFS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_LAYOUT_FIELD_NUMBER: _ClassVar[int]
    contents: _containers.RepeatedCompositeFieldContainer[_content_pb2.Content]
    content_hashes: bytes
    heads: _containers.RepeatedCompositeFieldContainer[HeadSelector]
    options: _embedding_service_pb2.VectorOptions
    include_vectors: bool
    lane: _content_pb2.Lane
    task: str
    head_refs: _containers.RepeatedScalarFieldContainer[str]
    known_layout: bytes
    def __init__(self, contents: _Optional[_Iterable[_Union[_content_pb2.Content, _Mapping]]] = ..., content_hashes: _Optional[bytes] = ..., heads: _Optional[_Iterable[_Union[HeadSelector, _Mapping]]] = ..., options: _Optional[_Union[_embedding_service_pb2.VectorOptions, _Mapping]] = ..., include_vectors: bool = ..., lane: _Optional[_Union[_content_pb2.Lane, str]] = ..., task: _Optional[str] = ..., head_refs: _Optional[_Iterable[str]] = ..., known_layout: _Optional[bytes] = ...) -> None: ...

class PredictResponse(_message.Message):
    __slots__ = ("results", "sources", "errors", "vectors", "provenance", "cost", "packed", "bridges")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    PACKED_FIELD_NUMBER: _ClassVar[int]
    BRIDGES_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[HeadResult]
    sources: _containers.RepeatedScalarFieldContainer[_content_pb2.ItemSource]
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    vectors: _content_pb2.Vectors
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    packed: PackedResults
    bridges: _containers.RepeatedCompositeFieldContainer[BridgeUse]
    def __init__(self, results: _Optional[_Iterable[_Union[HeadResult, _Mapping]]] = ..., sources: _Optional[_Iterable[_Union[_content_pb2.ItemSource, str]]] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ..., packed: _Optional[_Union[PackedResults, _Mapping]] = ..., bridges: _Optional[_Iterable[_Union[BridgeUse, _Mapping]]] = ...) -> None: ...

class BridgeUse(_message.Message):
    __slots__ = ("bridge", "heads", "head_space_digest", "losses")
    class LossesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _content_pb2.Figure
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...
    BRIDGE_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LOSSES_FIELD_NUMBER: _ClassVar[int]
    bridge: str
    heads: _containers.RepeatedScalarFieldContainer[str]
    head_space_digest: bytes
    losses: _containers.MessageMap[str, _content_pb2.Figure]
    def __init__(self, bridge: _Optional[str] = ..., heads: _Optional[_Iterable[str]] = ..., head_space_digest: _Optional[bytes] = ..., losses: _Optional[_Mapping[str, _content_pb2.Figure]] = ...) -> None: ...

class PackedResults(_message.Message):
    __slots__ = ("scores", "layout_digest", "layout", "compute_seconds")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    LAYOUT_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    scores: bytes
    layout_digest: bytes
    layout: _containers.RepeatedCompositeFieldContainer[HeadLayout]
    compute_seconds: bytes
    def __init__(self, scores: _Optional[bytes] = ..., layout_digest: _Optional[bytes] = ..., layout: _Optional[_Iterable[_Union[HeadLayout, _Mapping]]] = ..., compute_seconds: _Optional[bytes] = ...) -> None: ...

class HeadLayout(_message.Message):
    __slots__ = ("head", "version", "kind", "labels", "thresholds")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    head: str
    version: int
    kind: HeadKind
    labels: _containers.RepeatedScalarFieldContainer[str]
    thresholds: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, head: _Optional[str] = ..., version: _Optional[int] = ..., kind: _Optional[_Union[HeadKind, str]] = ..., labels: _Optional[_Iterable[str]] = ..., thresholds: _Optional[_Iterable[float]] = ...) -> None: ...

class HeadResult(_message.Message):
    __slots__ = ("head", "version", "kind", "labels", "scores", "columns", "label_indices", "thresholds", "compute_time")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    LABEL_INDICES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_TIME_FIELD_NUMBER: _ClassVar[int]
    head: str
    version: int
    kind: HeadKind
    labels: _containers.RepeatedScalarFieldContainer[str]
    scores: bytes
    columns: int
    label_indices: bytes
    thresholds: bytes
    compute_time: _content_pb2.Figure
    def __init__(self, head: _Optional[str] = ..., version: _Optional[int] = ..., kind: _Optional[_Union[HeadKind, str]] = ..., labels: _Optional[_Iterable[str]] = ..., scores: _Optional[bytes] = ..., columns: _Optional[int] = ..., label_indices: _Optional[bytes] = ..., thresholds: _Optional[bytes] = ..., compute_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("id", "score", "metadata", "text")
    ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    id: str
    score: float
    metadata: _struct_pb2.Struct
    text: str
    def __init__(self, id: _Optional[str] = ..., score: _Optional[float] = ..., metadata: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., text: _Optional[str] = ...) -> None: ...

class Hits(_message.Message):
    __slots__ = ("hits",)
    HITS_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ...) -> None: ...

class MetadataFilter(_message.Message):
    __slots__ = ("field", "texts", "numbers", "range")
    FIELD_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    NUMBERS_FIELD_NUMBER: _ClassVar[int]
    RANGE_FIELD_NUMBER: _ClassVar[int]
    field: str
    texts: _containers.RepeatedScalarFieldContainer[str]
    numbers: _containers.RepeatedScalarFieldContainer[float]
    range: NumberRange
    def __init__(self, field: _Optional[str] = ..., texts: _Optional[_Iterable[str]] = ..., numbers: _Optional[_Iterable[float]] = ..., range: _Optional[_Union[NumberRange, _Mapping]] = ...) -> None: ...

class NumberRange(_message.Message):
    __slots__ = ("low", "high")
    LOW_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    low: float
    high: float
    def __init__(self, low: _Optional[float] = ..., high: _Optional[float] = ...) -> None: ...

class Rerank(_message.Message):
    __slots__ = ("candidates", "head", "label")
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    candidates: int
    head: str
    label: str
    def __init__(self, candidates: _Optional[int] = ..., head: _Optional[str] = ..., label: _Optional[str] = ...) -> None: ...

class RetrieveRequest(_message.Message):
    __slots__ = ("index", "queries", "top_k", "lane", "task", "mode", "filters", "rerank", "include_text")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    QUERIES_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_TEXT_FIELD_NUMBER: _ClassVar[int]
    index: str
    queries: _containers.RepeatedCompositeFieldContainer[_content_pb2.Content]
    top_k: int
    lane: _content_pb2.Lane
    task: str
    mode: RetrievalMode
    filters: _containers.RepeatedCompositeFieldContainer[MetadataFilter]
    rerank: Rerank
    include_text: bool
    def __init__(self, index: _Optional[str] = ..., queries: _Optional[_Iterable[_Union[_content_pb2.Content, _Mapping]]] = ..., top_k: _Optional[int] = ..., lane: _Optional[_Union[_content_pb2.Lane, str]] = ..., task: _Optional[str] = ..., mode: _Optional[_Union[RetrievalMode, str]] = ..., filters: _Optional[_Iterable[_Union[MetadataFilter, _Mapping]]] = ..., rerank: _Optional[_Union[Rerank, _Mapping]] = ..., include_text: bool = ...) -> None: ...

class RetrieveResponse(_message.Message):
    __slots__ = ("results", "sources", "errors", "provenance", "cost")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[Hits]
    sources: _containers.RepeatedScalarFieldContainer[_content_pb2.ItemSource]
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    def __init__(self, results: _Optional[_Iterable[_Union[Hits, _Mapping]]] = ..., sources: _Optional[_Iterable[_Union[_content_pb2.ItemSource, str]]] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ...) -> None: ...

class RecommendRequest(_message.Message):
    __slots__ = ("index", "history_ids", "history", "top_k", "exclude_ids", "lane", "task", "user_id", "filters")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    HISTORY_IDS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_IDS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    index: str
    history_ids: _containers.RepeatedScalarFieldContainer[str]
    history: _containers.RepeatedCompositeFieldContainer[_content_pb2.Content]
    top_k: int
    exclude_ids: _containers.RepeatedScalarFieldContainer[str]
    lane: _content_pb2.Lane
    task: str
    user_id: str
    filters: _containers.RepeatedCompositeFieldContainer[MetadataFilter]
    def __init__(self, index: _Optional[str] = ..., history_ids: _Optional[_Iterable[str]] = ..., history: _Optional[_Iterable[_Union[_content_pb2.Content, _Mapping]]] = ..., top_k: _Optional[int] = ..., exclude_ids: _Optional[_Iterable[str]] = ..., lane: _Optional[_Union[_content_pb2.Lane, str]] = ..., task: _Optional[str] = ..., user_id: _Optional[str] = ..., filters: _Optional[_Iterable[_Union[MetadataFilter, _Mapping]]] = ...) -> None: ...

class RecommendResponse(_message.Message):
    __slots__ = ("result", "sources", "errors", "provenance", "cost")
    RESULT_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    result: Hits
    sources: _containers.RepeatedScalarFieldContainer[_content_pb2.ItemSource]
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    def __init__(self, result: _Optional[_Union[Hits, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[_content_pb2.ItemSource, str]]] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("query", "index", "user_id", "history_ids", "history_hashes", "candidate_hashes", "candidate_ids", "space", "lane", "task")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    HISTORY_IDS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_HASHES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_HASHES_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    query: _content_pb2.Content
    index: str
    user_id: str
    history_ids: _containers.RepeatedScalarFieldContainer[str]
    history_hashes: bytes
    candidate_hashes: bytes
    candidate_ids: _containers.RepeatedScalarFieldContainer[str]
    space: str
    lane: _content_pb2.Lane
    task: str
    def __init__(self, query: _Optional[_Union[_content_pb2.Content, _Mapping]] = ..., index: _Optional[str] = ..., user_id: _Optional[str] = ..., history_ids: _Optional[_Iterable[str]] = ..., history_hashes: _Optional[bytes] = ..., candidate_hashes: _Optional[bytes] = ..., candidate_ids: _Optional[_Iterable[str]] = ..., space: _Optional[str] = ..., lane: _Optional[_Union[_content_pb2.Lane, str]] = ..., task: _Optional[str] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scores", "scale", "errors", "provenance", "cost")
    SCORES_FIELD_NUMBER: _ClassVar[int]
    SCALE_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    scores: bytes
    scale: str
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    def __init__(self, scores: _Optional[bytes] = ..., scale: _Optional[str] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ...) -> None: ...

class AnswerRequest(_message.Message):
    __slots__ = ("index", "question", "top_k", "max_tokens", "task", "mode", "filters")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    index: str
    question: str
    top_k: int
    max_tokens: int
    task: str
    mode: RetrievalMode
    filters: _containers.RepeatedCompositeFieldContainer[MetadataFilter]
    def __init__(self, index: _Optional[str] = ..., question: _Optional[str] = ..., top_k: _Optional[int] = ..., max_tokens: _Optional[int] = ..., task: _Optional[str] = ..., mode: _Optional[_Union[RetrievalMode, str]] = ..., filters: _Optional[_Iterable[_Union[MetadataFilter, _Mapping]]] = ...) -> None: ...

class AnswerResponse(_message.Message):
    __slots__ = ("text", "citations", "end", "tokens")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    CITATIONS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    text: str
    citations: _containers.RepeatedCompositeFieldContainer[Hit]
    end: AnswerEnd
    tokens: int
    def __init__(self, text: _Optional[str] = ..., citations: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., end: _Optional[_Union[AnswerEnd, str]] = ..., tokens: _Optional[int] = ...) -> None: ...

class ListHeadsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListHeadsResponse(_message.Message):
    __slots__ = ("heads", "indexes")
    HEADS_FIELD_NUMBER: _ClassVar[int]
    INDEXES_FIELD_NUMBER: _ClassVar[int]
    heads: _containers.RepeatedCompositeFieldContainer[HeadDescription]
    indexes: _containers.RepeatedCompositeFieldContainer[IndexDescription]
    def __init__(self, heads: _Optional[_Iterable[_Union[HeadDescription, _Mapping]]] = ..., indexes: _Optional[_Iterable[_Union[IndexDescription, _Mapping]]] = ...) -> None: ...

class HeadDescription(_message.Message):
    __slots__ = ("head", "version", "kind", "labels", "space_digest", "aliases", "created_at", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    HEAD_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    head: str
    version: int
    kind: HeadKind
    labels: _containers.RepeatedScalarFieldContainer[str]
    space_digest: bytes
    aliases: _containers.RepeatedScalarFieldContainer[str]
    created_at: _timestamp_pb2.Timestamp
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, head: _Optional[str] = ..., version: _Optional[int] = ..., kind: _Optional[_Union[HeadKind, str]] = ..., labels: _Optional[_Iterable[str]] = ..., space_digest: _Optional[bytes] = ..., aliases: _Optional[_Iterable[str]] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class IndexDescription(_message.Message):
    __slots__ = ("index", "items", "space_digest", "kind")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    index: str
    items: int
    space_digest: bytes
    kind: str
    def __init__(self, index: _Optional[str] = ..., items: _Optional[int] = ..., space_digest: _Optional[bytes] = ..., kind: _Optional[str] = ...) -> None: ...
