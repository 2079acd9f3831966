from embedder_client.v1 import content_pb2 as _content_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class UploadMedium(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UPLOAD_MEDIUM_UNSPECIFIED: _ClassVar[UploadMedium]
    UPLOAD_MEDIUM_IMAGE: _ClassVar[UploadMedium]
    UPLOAD_MEDIUM_VIDEO: _ClassVar[UploadMedium]
UPLOAD_MEDIUM_UNSPECIFIED: UploadMedium
UPLOAD_MEDIUM_IMAGE: UploadMedium
UPLOAD_MEDIUM_VIDEO: UploadMedium

class VectorOptions(_message.Message):
    __slots__ = ("space", "dim", "dtype")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    space: str
    dim: int
    dtype: _content_pb2.Dtype
    def __init__(self, space: _Optional[str] = ..., dim: _Optional[int] = ..., dtype: _Optional[_Union[_content_pb2.Dtype, str]] = ...) -> None: ...

class EmbedRequest(_message.Message):
    __slots__ = ("contents", "options", "lane", "durable", "task", "segments", "post", "additional_spaces")
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_SPACES_FIELD_NUMBER: _ClassVar[int]
    contents: _containers.RepeatedCompositeFieldContainer[_content_pb2.Content]
    options: VectorOptions
    lane: _content_pb2.Lane
    durable: bool
    task: str
    segments: SegmentOptions
    post: PostOptions
    additional_spaces: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, contents: _Optional[_Iterable[_Union[_content_pb2.Content, _Mapping]]] = ..., options: _Optional[_Union[VectorOptions, _Mapping]] = ..., lane: _Optional[_Union[_content_pb2.Lane, str]] = ..., durable: bool = ..., task: _Optional[str] = ..., segments: _Optional[_Union[SegmentOptions, _Mapping]] = ..., post: _Optional[_Union[PostOptions, _Mapping]] = ..., additional_spaces: _Optional[_Iterable[str]] = ...) -> None: ...

class SegmentOptions(_message.Message):
    __slots__ = ("seconds",)
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    seconds: float
    def __init__(self, seconds: _Optional[float] = ...) -> None: ...

class PostOptions(_message.Message):
    __slots__ = ("fusion", "field_weights")
    class FieldWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    FUSION_FIELD_NUMBER: _ClassVar[int]
    FIELD_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    fusion: str
    field_weights: _containers.ScalarMap[str, float]
    def __init__(self, fusion: _Optional[str] = ..., field_weights: _Optional[_Mapping[str, float]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("vectors", "sources", "errors", "provenance", "cost", "segments", "additional")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_FIELD_NUMBER: _ClassVar[int]
    vectors: _content_pb2.Vectors
    sources: _containers.RepeatedScalarFieldContainer[_content_pb2.ItemSource]
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    segments: _containers.RepeatedCompositeFieldContainer[VideoSegments]
    additional: _containers.RepeatedCompositeFieldContainer[SpaceVectors]
    def __init__(self, vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[_content_pb2.ItemSource, str]]] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ..., segments: _Optional[_Iterable[_Union[VideoSegments, _Mapping]]] = ..., additional: _Optional[_Iterable[_Union[SpaceVectors, _Mapping]]] = ...) -> None: ...

class SpaceVectors(_message.Message):
    __slots__ = ("vectors", "sources", "errors", "wanted", "provenance", "cost")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    vectors: _content_pb2.Vectors
    sources: _containers.RepeatedScalarFieldContainer[_content_pb2.ItemSource]
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    wanted: _containers.RepeatedScalarFieldContainer[int]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    def __init__(self, vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[_content_pb2.ItemSource, str]]] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., wanted: _Optional[_Iterable[int]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ...) -> None: ...

class VideoSegments(_message.Message):
    __slots__ = ("index", "start_seconds", "end_seconds", "vectors")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    START_SECONDS_FIELD_NUMBER: _ClassVar[int]
    END_SECONDS_FIELD_NUMBER: _ClassVar[int]
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    index: int
    start_seconds: _containers.RepeatedScalarFieldContainer[float]
    end_seconds: _containers.RepeatedScalarFieldContainer[float]
    vectors: _content_pb2.Vectors
    def __init__(self, index: _Optional[int] = ..., start_seconds: _Optional[_Iterable[float]] = ..., end_seconds: _Optional[_Iterable[float]] = ..., vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ...) -> None: ...

class EmbedUploadRequest(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: UploadHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[UploadHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class EmbedUploadResponse(_message.Message):
    __slots__ = ("response",)
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    response: EmbedResponse
    def __init__(self, response: _Optional[_Union[EmbedResponse, _Mapping]] = ...) -> None: ...

class UploadHeader(_message.Message):
    __slots__ = ("medium", "size_bytes", "content_hash", "request")
    MEDIUM_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    medium: UploadMedium
    size_bytes: int
    content_hash: bytes
    request: EmbedRequest
    def __init__(self, medium: _Optional[_Union[UploadMedium, str]] = ..., size_bytes: _Optional[int] = ..., content_hash: _Optional[bytes] = ..., request: _Optional[_Union[EmbedRequest, _Mapping]] = ...) -> None: ...

class EmbedStreamRequest(_message.Message):
    __slots__ = ("sequence", "request")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    request: EmbedRequest
    def __init__(self, sequence: _Optional[int] = ..., request: _Optional[_Union[EmbedRequest, _Mapping]] = ...) -> None: ...

class EmbedStreamResponse(_message.Message):
    __slots__ = ("sequence", "response")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RESPONSE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    response: EmbedResponse
    def __init__(self, sequence: _Optional[int] = ..., response: _Optional[_Union[EmbedResponse, _Mapping]] = ...) -> None: ...

class LookupRequest(_message.Message):
    __slots__ = ("content_hashes", "options", "task", "post", "additional_spaces")
    CONTENT_HASHES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_SPACES_FIELD_NUMBER: _ClassVar[int]
    content_hashes: bytes
    options: VectorOptions
    task: str
    post: PostOptions
    additional_spaces: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, content_hashes: _Optional[bytes] = ..., options: _Optional[_Union[VectorOptions, _Mapping]] = ..., task: _Optional[str] = ..., post: _Optional[_Union[PostOptions, _Mapping]] = ..., additional_spaces: _Optional[_Iterable[str]] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("vectors", "wanted", "provenance", "cost", "additional")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_FIELD_NUMBER: _ClassVar[int]
    vectors: _content_pb2.Vectors
    wanted: _containers.RepeatedScalarFieldContainer[int]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    additional: _containers.RepeatedCompositeFieldContainer[SpaceVectors]
    def __init__(self, vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ..., wanted: _Optional[_Iterable[int]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ..., additional: _Optional[_Iterable[_Union[SpaceVectors, _Mapping]]] = ...) -> None: ...
