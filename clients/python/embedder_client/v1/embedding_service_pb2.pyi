from embedder_client.v1 import content_pb2 as _content_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
    __slots__ = ("contents", "options", "lane", "durable", "task")
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    LANE_FIELD_NUMBER: _ClassVar[int]
    DURABLE_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    contents: _containers.RepeatedCompositeFieldContainer[_content_pb2.Content]
    options: VectorOptions
    lane: _content_pb2.Lane
    durable: bool
    task: str
    def __init__(self, contents: _Optional[_Iterable[_Union[_content_pb2.Content, _Mapping]]] = ..., options: _Optional[_Union[VectorOptions, _Mapping]] = ..., lane: _Optional[_Union[_content_pb2.Lane, str]] = ..., durable: bool = ..., task: _Optional[str] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("vectors", "sources", "errors", "provenance", "cost")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    vectors: _content_pb2.Vectors
    sources: _containers.RepeatedScalarFieldContainer[_content_pb2.ItemSource]
    errors: _containers.RepeatedCompositeFieldContainer[_content_pb2.ItemError]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    def __init__(self, vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ..., sources: _Optional[_Iterable[_Union[_content_pb2.ItemSource, str]]] = ..., errors: _Optional[_Iterable[_Union[_content_pb2.ItemError, _Mapping]]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ...) -> None: ...

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
    __slots__ = ("content_hashes", "options", "task")
    CONTENT_HASHES_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    content_hashes: bytes
    options: VectorOptions
    task: str
    def __init__(self, content_hashes: _Optional[bytes] = ..., options: _Optional[_Union[VectorOptions, _Mapping]] = ..., task: _Optional[str] = ...) -> None: ...

class LookupResponse(_message.Message):
    __slots__ = ("vectors", "wanted", "provenance", "cost")
    VECTORS_FIELD_NUMBER: _ClassVar[int]
    WANTED_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    COST_FIELD_NUMBER: _ClassVar[int]
    vectors: _content_pb2.Vectors
    wanted: _containers.RepeatedScalarFieldContainer[int]
    provenance: _content_pb2.Provenance
    cost: _content_pb2.Cost
    def __init__(self, vectors: _Optional[_Union[_content_pb2.Vectors, _Mapping]] = ..., wanted: _Optional[_Iterable[int]] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., cost: _Optional[_Union[_content_pb2.Cost, _Mapping]] = ...) -> None: ...
