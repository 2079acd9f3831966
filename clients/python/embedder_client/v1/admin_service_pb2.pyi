import datetime

from embedder_client.v1 import content_pb2 as _content_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SpaceState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPACE_STATE_UNSPECIFIED: _ClassVar[SpaceState]
    SPACE_STATE_LOADING: _ClassVar[SpaceState]
    SPACE_STATE_READY: _ClassVar[SpaceState]
    SPACE_STATE_SHADOW: _ClassVar[SpaceState]
    SPACE_STATE_SERVING: _ClassVar[SpaceState]
    SPACE_STATE_REFUSED: _ClassVar[SpaceState]
    SPACE_STATE_RETIRED: _ClassVar[SpaceState]
SPACE_STATE_UNSPECIFIED: SpaceState
SPACE_STATE_LOADING: SpaceState
SPACE_STATE_READY: SpaceState
SPACE_STATE_SHADOW: SpaceState
SPACE_STATE_SERVING: SpaceState
SPACE_STATE_REFUSED: SpaceState
SPACE_STATE_RETIRED: SpaceState

class ListSpacesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListSpacesResponse(_message.Message):
    __slots__ = ("spaces", "aliases", "unserved")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SPACES_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    UNSERVED_FIELD_NUMBER: _ClassVar[int]
    spaces: _containers.RepeatedCompositeFieldContainer[Space]
    aliases: _containers.ScalarMap[str, str]
    unserved: _containers.RepeatedCompositeFieldContainer[UnservedSpace]
    def __init__(self, spaces: _Optional[_Iterable[_Union[Space, _Mapping]]] = ..., aliases: _Optional[_Mapping[str, str]] = ..., unserved: _Optional[_Iterable[_Union[UnservedSpace, _Mapping]]] = ...) -> None: ...

class UnservedSpace(_message.Message):
    __slots__ = ("name", "state", "reason")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: SpaceState
    reason: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[SpaceState, str]] = ..., reason: _Optional[str] = ...) -> None: ...

class Space(_message.Message):
    __slots__ = ("name", "provenance", "dim", "modalities", "max_tokens", "device", "identity", "state")
    class IdentityEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    DIM_FIELD_NUMBER: _ClassVar[int]
    MODALITIES_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    name: str
    provenance: _content_pb2.Provenance
    dim: int
    modalities: _containers.RepeatedScalarFieldContainer[str]
    max_tokens: int
    device: str
    identity: _containers.ScalarMap[str, str]
    state: SpaceState
    def __init__(self, name: _Optional[str] = ..., provenance: _Optional[_Union[_content_pb2.Provenance, _Mapping]] = ..., dim: _Optional[int] = ..., modalities: _Optional[_Iterable[str]] = ..., max_tokens: _Optional[int] = ..., device: _Optional[str] = ..., identity: _Optional[_Mapping[str, str]] = ..., state: _Optional[_Union[SpaceState, str]] = ...) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("alias", "space", "expected_space")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SPACE_FIELD_NUMBER: _ClassVar[int]
    alias: str
    space: str
    expected_space: str
    def __init__(self, alias: _Optional[str] = ..., space: _Optional[str] = ..., expected_space: _Optional[str] = ...) -> None: ...

class SetAliasResponse(_message.Message):
    __slots__ = ("previous_space",)
    PREVIOUS_SPACE_FIELD_NUMBER: _ClassVar[int]
    previous_space: str
    def __init__(self, previous_space: _Optional[str] = ...) -> None: ...

class GetCacheStatsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetCacheStatsResponse(_message.Message):
    __slots__ = ("entries", "size_bytes", "limit_bytes", "hits", "misses", "corrupt_records", "pending_write_bytes", "dropped_writes", "path", "started_at")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    HITS_FIELD_NUMBER: _ClassVar[int]
    MISSES_FIELD_NUMBER: _ClassVar[int]
    CORRUPT_RECORDS_FIELD_NUMBER: _ClassVar[int]
    PENDING_WRITE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DROPPED_WRITES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    entries: int
    size_bytes: int
    limit_bytes: int
    hits: int
    misses: int
    corrupt_records: int
    pending_write_bytes: int
    dropped_writes: int
    path: str
    started_at: _timestamp_pb2.Timestamp
    def __init__(self, entries: _Optional[int] = ..., size_bytes: _Optional[int] = ..., limit_bytes: _Optional[int] = ..., hits: _Optional[int] = ..., misses: _Optional[int] = ..., corrupt_records: _Optional[int] = ..., pending_write_bytes: _Optional[int] = ..., dropped_writes: _Optional[int] = ..., path: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DeleteContentsRequest(_message.Message):
    __slots__ = ("content_hashes", "space")
    CONTENT_HASHES_FIELD_NUMBER: _ClassVar[int]
    SPACE_FIELD_NUMBER: _ClassVar[int]
    content_hashes: bytes
    space: str
    def __init__(self, content_hashes: _Optional[bytes] = ..., space: _Optional[str] = ...) -> None: ...

class DeleteContentsResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: int
    def __init__(self, deleted: _Optional[int] = ...) -> None: ...

class GetLimitsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetLimitsResponse(_message.Message):
    __slots__ = ("limits", "cache_id")
    class LimitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    CACHE_ID_FIELD_NUMBER: _ClassVar[int]
    limits: _containers.ScalarMap[str, int]
    cache_id: str
    def __init__(self, limits: _Optional[_Mapping[str, int]] = ..., cache_id: _Optional[str] = ...) -> None: ...
