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

class SavingsGroup(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SAVINGS_GROUP_UNSPECIFIED: _ClassVar[SavingsGroup]
    SAVINGS_GROUP_TASK: _ClassVar[SavingsGroup]
    SAVINGS_GROUP_CLIENT: _ClassVar[SavingsGroup]
    SAVINGS_GROUP_SPACE: _ClassVar[SavingsGroup]
    SAVINGS_GROUP_LANE: _ClassVar[SavingsGroup]
SAVINGS_GROUP_UNSPECIFIED: SavingsGroup
SAVINGS_GROUP_TASK: SavingsGroup
SAVINGS_GROUP_CLIENT: SavingsGroup
SAVINGS_GROUP_SPACE: SavingsGroup
SAVINGS_GROUP_LANE: SavingsGroup

class GetSavingsRequest(_message.Message):
    __slots__ = ("start_time", "end_time", "group_by", "task", "client")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    group_by: SavingsGroup
    task: str
    client: str
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[_Union[SavingsGroup, str]] = ..., task: _Optional[str] = ..., client: _Optional[str] = ...) -> None: ...

class GetSavingsResponse(_message.Message):
    __slots__ = ("total", "rows", "start_time", "end_time", "assumptions")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ASSUMPTIONS_FIELD_NUMBER: _ClassVar[int]
    total: SavingsRow
    rows: _containers.RepeatedCompositeFieldContainer[SavingsRow]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    assumptions: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, total: _Optional[_Union[SavingsRow, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[SavingsRow, _Mapping]]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., assumptions: _Optional[_Iterable[str]] = ...) -> None: ...

class SavingsRow(_message.Message):
    __slots__ = ("group", "contents_asked", "contents_unique", "cache_hits", "shared_cache_hits", "in_flight_hits", "encodes", "failures", "device_time", "head_time", "device_time_unshared", "device_time_saved", "energy", "energy_saved")
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_ASKED_FIELD_NUMBER: _ClassVar[int]
    CONTENTS_UNIQUE_FIELD_NUMBER: _ClassVar[int]
    CACHE_HITS_FIELD_NUMBER: _ClassVar[int]
    SHARED_CACHE_HITS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_HITS_FIELD_NUMBER: _ClassVar[int]
    ENCODES_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_FIELD_NUMBER: _ClassVar[int]
    HEAD_TIME_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_UNSHARED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TIME_SAVED_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    ENERGY_SAVED_FIELD_NUMBER: _ClassVar[int]
    group: str
    contents_asked: int
    contents_unique: _content_pb2.Figure
    cache_hits: int
    shared_cache_hits: int
    in_flight_hits: int
    encodes: int
    failures: int
    device_time: _content_pb2.Figure
    head_time: _content_pb2.Figure
    device_time_unshared: _content_pb2.Figure
    device_time_saved: _content_pb2.Figure
    energy: _content_pb2.Figure
    energy_saved: _content_pb2.Figure
    def __init__(self, group: _Optional[str] = ..., contents_asked: _Optional[int] = ..., contents_unique: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., cache_hits: _Optional[int] = ..., shared_cache_hits: _Optional[int] = ..., in_flight_hits: _Optional[int] = ..., encodes: _Optional[int] = ..., failures: _Optional[int] = ..., device_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., head_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., device_time_unshared: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., device_time_saved: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., energy: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., energy_saved: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...
