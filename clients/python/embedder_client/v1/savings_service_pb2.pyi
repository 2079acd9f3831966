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
    SAVINGS_GROUP_TENANT: _ClassVar[SavingsGroup]
    SAVINGS_GROUP_HEAD: _ClassVar[SavingsGroup]
SAVINGS_GROUP_UNSPECIFIED: SavingsGroup
SAVINGS_GROUP_TASK: SavingsGroup
SAVINGS_GROUP_CLIENT: SavingsGroup
SAVINGS_GROUP_SPACE: SavingsGroup
SAVINGS_GROUP_LANE: SavingsGroup
SAVINGS_GROUP_TENANT: SavingsGroup
SAVINGS_GROUP_HEAD: SavingsGroup

class GetSavingsRequest(_message.Message):
    __slots__ = ("start_time", "end_time", "group_by", "task", "client", "tenant", "head")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    GROUP_BY_FIELD_NUMBER: _ClassVar[int]
    TASK_FIELD_NUMBER: _ClassVar[int]
    CLIENT_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    group_by: SavingsGroup
    task: str
    client: str
    tenant: str
    head: str
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., group_by: _Optional[_Union[SavingsGroup, str]] = ..., task: _Optional[str] = ..., client: _Optional[str] = ..., tenant: _Optional[str] = ..., head: _Optional[str] = ...) -> None: ...

class GetSavingsResponse(_message.Message):
    __slots__ = ("total", "rows", "start_time", "end_time", "assumptions", "formula", "sensitivity", "unclean_stops", "notes", "uptime", "rates")
    class RatesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _content_pb2.Figure
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    ASSUMPTIONS_FIELD_NUMBER: _ClassVar[int]
    FORMULA_FIELD_NUMBER: _ClassVar[int]
    SENSITIVITY_FIELD_NUMBER: _ClassVar[int]
    UNCLEAN_STOPS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    UPTIME_FIELD_NUMBER: _ClassVar[int]
    RATES_FIELD_NUMBER: _ClassVar[int]
    total: SavingsRow
    rows: _containers.RepeatedCompositeFieldContainer[SavingsRow]
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    assumptions: _containers.RepeatedScalarFieldContainer[str]
    formula: SavingsFormula
    sensitivity: _containers.RepeatedCompositeFieldContainer[SensitivityPoint]
    unclean_stops: _containers.RepeatedCompositeFieldContainer[UncleanStop]
    notes: _containers.RepeatedScalarFieldContainer[str]
    uptime: _content_pb2.Figure
    rates: _containers.MessageMap[str, _content_pb2.Figure]
    def __init__(self, total: _Optional[_Union[SavingsRow, _Mapping]] = ..., rows: _Optional[_Iterable[_Union[SavingsRow, _Mapping]]] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., assumptions: _Optional[_Iterable[str]] = ..., formula: _Optional[_Union[SavingsFormula, _Mapping]] = ..., sensitivity: _Optional[_Iterable[_Union[SensitivityPoint, _Mapping]]] = ..., unclean_stops: _Optional[_Iterable[_Union[UncleanStop, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ..., uptime: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., rates: _Optional[_Mapping[str, _content_pb2.Figure]] = ...) -> None: ...

class SavingsRow(_message.Message):
    __slots__ = ("group", "contents_asked", "contents_unique", "cache_hits", "shared_cache_hits", "in_flight_hits", "encodes", "failures", "device_time", "head_time", "device_time_unshared", "device_time_saved", "energy", "energy_saved", "lookup_time", "wall_time", "shared", "overhead", "alternative", "saved", "sci")
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
    LOOKUP_TIME_FIELD_NUMBER: _ClassVar[int]
    WALL_TIME_FIELD_NUMBER: _ClassVar[int]
    SHARED_FIELD_NUMBER: _ClassVar[int]
    OVERHEAD_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVE_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    SCI_FIELD_NUMBER: _ClassVar[int]
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
    lookup_time: _content_pb2.Figure
    wall_time: _content_pb2.Figure
    shared: RoadCost
    overhead: RoadCost
    alternative: RoadCost
    saved: RoadCost
    sci: _content_pb2.Figure
    def __init__(self, group: _Optional[str] = ..., contents_asked: _Optional[int] = ..., contents_unique: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., cache_hits: _Optional[int] = ..., shared_cache_hits: _Optional[int] = ..., in_flight_hits: _Optional[int] = ..., encodes: _Optional[int] = ..., failures: _Optional[int] = ..., device_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., head_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., device_time_unshared: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., device_time_saved: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., energy: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., energy_saved: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., lookup_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., wall_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., shared: _Optional[_Union[RoadCost, _Mapping]] = ..., overhead: _Optional[_Union[RoadCost, _Mapping]] = ..., alternative: _Optional[_Union[RoadCost, _Mapping]] = ..., saved: _Optional[_Union[RoadCost, _Mapping]] = ..., sci: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...

class RoadCost(_message.Message):
    __slots__ = ("time", "energy", "money", "operational_carbon", "embodied_carbon", "carbon")
    TIME_FIELD_NUMBER: _ClassVar[int]
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    MONEY_FIELD_NUMBER: _ClassVar[int]
    OPERATIONAL_CARBON_FIELD_NUMBER: _ClassVar[int]
    EMBODIED_CARBON_FIELD_NUMBER: _ClassVar[int]
    CARBON_FIELD_NUMBER: _ClassVar[int]
    time: _content_pb2.Figure
    energy: _content_pb2.Figure
    money: _content_pb2.Figure
    operational_carbon: _content_pb2.Figure
    embodied_carbon: _content_pb2.Figure
    carbon: _content_pb2.Figure
    def __init__(self, time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., energy: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., money: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., operational_carbon: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., embodied_carbon: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., carbon: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...

class SavingsFormula(_message.Message):
    __slots__ = ("contents", "hit_rate", "encode_time", "lookup_time", "heads", "shared_s", "alternative_s", "formula_saved_s", "ledger_saved_s", "saved_s", "difference", "tasks", "break_even_tasks", "break_even_tasks_uncached", "break_even_hit_rate")
    CONTENTS_FIELD_NUMBER: _ClassVar[int]
    HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    ENCODE_TIME_FIELD_NUMBER: _ClassVar[int]
    LOOKUP_TIME_FIELD_NUMBER: _ClassVar[int]
    HEADS_FIELD_NUMBER: _ClassVar[int]
    SHARED_S_FIELD_NUMBER: _ClassVar[int]
    ALTERNATIVE_S_FIELD_NUMBER: _ClassVar[int]
    FORMULA_SAVED_S_FIELD_NUMBER: _ClassVar[int]
    LEDGER_SAVED_S_FIELD_NUMBER: _ClassVar[int]
    SAVED_S_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    BREAK_EVEN_TASKS_FIELD_NUMBER: _ClassVar[int]
    BREAK_EVEN_TASKS_UNCACHED_FIELD_NUMBER: _ClassVar[int]
    BREAK_EVEN_HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    contents: int
    hit_rate: float
    encode_time: _content_pb2.Figure
    lookup_time: _content_pb2.Figure
    heads: _containers.RepeatedCompositeFieldContainer[HeadTerm]
    shared_s: float
    alternative_s: float
    formula_saved_s: float
    ledger_saved_s: float
    saved_s: float
    difference: float
    tasks: float
    break_even_tasks: float
    break_even_tasks_uncached: float
    break_even_hit_rate: float
    def __init__(self, contents: _Optional[int] = ..., hit_rate: _Optional[float] = ..., encode_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., lookup_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., heads: _Optional[_Iterable[_Union[HeadTerm, _Mapping]]] = ..., shared_s: _Optional[float] = ..., alternative_s: _Optional[float] = ..., formula_saved_s: _Optional[float] = ..., ledger_saved_s: _Optional[float] = ..., saved_s: _Optional[float] = ..., difference: _Optional[float] = ..., tasks: _Optional[float] = ..., break_even_tasks: _Optional[float] = ..., break_even_tasks_uncached: _Optional[float] = ..., break_even_hit_rate: _Optional[float] = ...) -> None: ...

class HeadTerm(_message.Message):
    __slots__ = ("head", "asked", "head_time", "special_time")
    HEAD_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    HEAD_TIME_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_TIME_FIELD_NUMBER: _ClassVar[int]
    head: str
    asked: int
    head_time: _content_pb2.Figure
    special_time: _content_pb2.Figure
    def __init__(self, head: _Optional[str] = ..., asked: _Optional[int] = ..., head_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ..., special_time: _Optional[_Union[_content_pb2.Figure, _Mapping]] = ...) -> None: ...

class SensitivityPoint(_message.Message):
    __slots__ = ("hit_rate", "tasks", "saved_share")
    HIT_RATE_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    SAVED_SHARE_FIELD_NUMBER: _ClassVar[int]
    hit_rate: float
    tasks: int
    saved_share: float
    def __init__(self, hit_rate: _Optional[float] = ..., tasks: _Optional[int] = ..., saved_share: _Optional[float] = ...) -> None: ...

class UncleanStop(_message.Message):
    __slots__ = ("start_time", "last_write_time")
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_WRITE_TIME_FIELD_NUMBER: _ClassVar[int]
    start_time: _timestamp_pb2.Timestamp
    last_write_time: _timestamp_pb2.Timestamp
    def __init__(self, start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_write_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
