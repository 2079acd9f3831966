from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Dtype(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[Dtype]
    DTYPE_FLOAT16: _ClassVar[Dtype]
    DTYPE_FLOAT32: _ClassVar[Dtype]
    DTYPE_INT8: _ClassVar[Dtype]
    DTYPE_BINARY: _ClassVar[Dtype]

class ItemSource(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ITEM_SOURCE_UNSPECIFIED: _ClassVar[ItemSource]
    ITEM_SOURCE_CACHE: _ClassVar[ItemSource]
    ITEM_SOURCE_IN_FLIGHT: _ClassVar[ItemSource]
    ITEM_SOURCE_COMPUTED: _ClassVar[ItemSource]
    ITEM_SOURCE_SHARED_CACHE: _ClassVar[ItemSource]
    ITEM_SOURCE_FAILED: _ClassVar[ItemSource]

class Basis(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    BASIS_UNSPECIFIED: _ClassVar[Basis]
    BASIS_MEASURED: _ClassVar[Basis]
    BASIS_ESTIMATED: _ClassVar[Basis]
    BASIS_ASSUMED: _ClassVar[Basis]

class Lane(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LANE_UNSPECIFIED: _ClassVar[Lane]
    LANE_INTERACTIVE: _ClassVar[Lane]
    LANE_BULK: _ClassVar[Lane]
DTYPE_UNSPECIFIED: Dtype
DTYPE_FLOAT16: Dtype
DTYPE_FLOAT32: Dtype
DTYPE_INT8: Dtype
DTYPE_BINARY: Dtype
ITEM_SOURCE_UNSPECIFIED: ItemSource
ITEM_SOURCE_CACHE: ItemSource
ITEM_SOURCE_IN_FLIGHT: ItemSource
ITEM_SOURCE_COMPUTED: ItemSource
ITEM_SOURCE_SHARED_CACHE: ItemSource
ITEM_SOURCE_FAILED: ItemSource
BASIS_UNSPECIFIED: Basis
BASIS_MEASURED: Basis
BASIS_ESTIMATED: Basis
BASIS_ASSUMED: Basis
LANE_UNSPECIFIED: Lane
LANE_INTERACTIVE: Lane
LANE_BULK: Lane

class Content(_message.Message):
    __slots__ = ("text", "image", "video", "post", "content_hash")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    VIDEO_FIELD_NUMBER: _ClassVar[int]
    POST_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    text: str
    image: bytes
    video: bytes
    post: Post
    content_hash: bytes
    def __init__(self, text: _Optional[str] = ..., image: _Optional[bytes] = ..., video: _Optional[bytes] = ..., post: _Optional[_Union[Post, _Mapping]] = ..., content_hash: _Optional[bytes] = ...) -> None: ...

class Post(_message.Message):
    __slots__ = ("fields",)
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    fields: _containers.RepeatedCompositeFieldContainer[PostField]
    def __init__(self, fields: _Optional[_Iterable[_Union[PostField, _Mapping]]] = ...) -> None: ...

class PostField(_message.Message):
    __slots__ = ("name", "content")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    content: Content
    def __init__(self, name: _Optional[str] = ..., content: _Optional[_Union[Content, _Mapping]] = ...) -> None: ...

class Vectors(_message.Message):
    __slots__ = ("data", "dtype", "rows", "dim", "scales")
    DATA_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    SCALES_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    dtype: Dtype
    rows: int
    dim: int
    scales: bytes
    def __init__(self, data: _Optional[bytes] = ..., dtype: _Optional[_Union[Dtype, str]] = ..., rows: _Optional[int] = ..., dim: _Optional[int] = ..., scales: _Optional[bytes] = ...) -> None: ...

class ItemError(_message.Message):
    __slots__ = ("index", "status")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    index: int
    status: _status_pb2.Status
    def __init__(self, index: _Optional[int] = ..., status: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("space", "space_digest", "model", "numerics")
    SPACE_FIELD_NUMBER: _ClassVar[int]
    SPACE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NUMERICS_FIELD_NUMBER: _ClassVar[int]
    space: str
    space_digest: bytes
    model: str
    numerics: str
    def __init__(self, space: _Optional[str] = ..., space_digest: _Optional[bytes] = ..., model: _Optional[str] = ..., numerics: _Optional[str] = ...) -> None: ...

class Figure(_message.Message):
    __slots__ = ("value", "basis", "unit", "source", "boundary")
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    BOUNDARY_FIELD_NUMBER: _ClassVar[int]
    value: float
    basis: Basis
    unit: str
    source: str
    boundary: str
    def __init__(self, value: _Optional[float] = ..., basis: _Optional[_Union[Basis, str]] = ..., unit: _Optional[str] = ..., source: _Optional[str] = ..., boundary: _Optional[str] = ...) -> None: ...

class BatchShape(_message.Message):
    __slots__ = ("items", "units", "padding_efficiency")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    UNITS_FIELD_NUMBER: _ClassVar[int]
    PADDING_EFFICIENCY_FIELD_NUMBER: _ClassVar[int]
    items: int
    units: float
    padding_efficiency: float
    def __init__(self, items: _Optional[int] = ..., units: _Optional[float] = ..., padding_efficiency: _Optional[float] = ...) -> None: ...

class Cost(_message.Message):
    __slots__ = ("device_time", "energy", "device_time_saved", "timings", "batch")
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_SAVED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    device_time: Figure
    energy: Figure
    device_time_saved: Figure
    timings: Timings
    batch: BatchShape
    def __init__(self, device_time: _Optional[_Union[Figure, _Mapping]] = ..., energy: _Optional[_Union[Figure, _Mapping]] = ..., device_time_saved: _Optional[_Union[Figure, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., batch: _Optional[_Union[BatchShape, _Mapping]] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("total_s", "lookup_s", "queue_s", "prepare_s", "encode_s", "store_s", "heads_s")
    TOTAL_S_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_S_FIELD_NUMBER: _ClassVar[int]
    QUEUE_S_FIELD_NUMBER: _ClassVar[int]
    PREPARE_S_FIELD_NUMBER: _ClassVar[int]
    ENCODE_S_FIELD_NUMBER: _ClassVar[int]
    STORE_S_FIELD_NUMBER: _ClassVar[int]
    HEADS_S_FIELD_NUMBER: _ClassVar[int]
    total_s: float
    lookup_s: float
    queue_s: float
    prepare_s: float
    encode_s: float
    store_s: float
    heads_s: float
    def __init__(self, total_s: _Optional[float] = ..., lookup_s: _Optional[float] = ..., queue_s: _Optional[float] = ..., prepare_s: _Optional[float] = ..., encode_s: _Optional[float] = ..., store_s: _Optional[float] = ..., heads_s: _Optional[float] = ...) -> None: ...
