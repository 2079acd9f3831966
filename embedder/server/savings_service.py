"""SavingsService: what sharing saved."""

from __future__ import annotations

import grpc

from embedder.errors import InvalidRequest
from embedder.savings.report import GroupBy, SavingsQuery, SavingsRow
from embedder.savings.report_maker import ReportMaker
from embedder.server.runtime import RuntimeGate
from embedder_client.v1 import content_pb2
from embedder_client.v1 import savings_service_pb2 as pb
from embedder_client.v1 import savings_service_pb2_grpc as pb_grpc

_GROUPS = {
    pb.SAVINGS_GROUP_UNSPECIFIED: GroupBy.NONE,
    pb.SAVINGS_GROUP_TASK: GroupBy.TASK,
    pb.SAVINGS_GROUP_CLIENT: GroupBy.CLIENT,
    pb.SAVINGS_GROUP_SPACE: GroupBy.SPACE,
    pb.SAVINGS_GROUP_LANE: GroupBy.LANE,
}


class SavingsService(pb_grpc.SavingsServiceServicer):
    """Serves `embedder.v1.SavingsService`."""

    def __init__(self, gate: RuntimeGate) -> None:
        self._gate = gate

    def GetSavings(self, request: pb.GetSavingsRequest, context: grpc.ServicerContext) -> pb.GetSavingsResponse:
        """Report the totals of a time range, by group if asked."""
        report = ReportMaker(self._gate.get().ledger).make(_query(request))
        response = pb.GetSavingsResponse(
            total=_row_message(report.total),
            rows=[_row_message(row) for row in report.rows],
            assumptions=report.assumptions,
        )
        if report.end:
            response.start_time.FromSeconds(report.start)
            response.end_time.FromSeconds(report.end)
        return response


def _query(request: pb.GetSavingsRequest) -> SavingsQuery:
    if request.group_by not in _GROUPS:
        raise InvalidRequest(f"group_by={request.group_by}; known are {', '.join(pb.SavingsGroup.keys())}")
    start = request.start_time.ToSeconds()
    end = request.end_time.ToSeconds() if request.HasField("end_time") else None
    if end is not None and end <= start:
        raise InvalidRequest(f"end_time={end} s is not after start_time={start} s")
    return SavingsQuery(
        start=start, end=end, group_by=_GROUPS[request.group_by], task=request.task, client=request.client
    )


def _row_message(row: SavingsRow) -> pb.SavingsRow:
    counts = row.counts
    measured, estimated = content_pb2.BASIS_MEASURED, content_pb2.BASIS_ESTIMATED
    return pb.SavingsRow(
        group=row.group,
        contents_asked=counts.asked,
        contents_unique=content_pb2.Figure(
            value=row.contents_unique,
            basis=measured if row.is_unique_exact else estimated,
            unit="1",
            source="set of content ids by UTC day" if row.is_unique_exact else "HyperLogLog of content ids by UTC day",
        ),
        cache_hits=counts.cache_hits,
        shared_cache_hits=counts.shared_cache_hits,
        in_flight_hits=counts.in_flight_hits,
        encodes=counts.encodes,
        failures=counts.failures,
        device_time=_seconds(row.device_s, measured, "wall time of the forward passes"),
        head_time=_seconds(row.head_s, measured, "wall time of the heads"),
        device_time_unshared=_seconds(
            row.unshared_s, estimated, "every call at the measured cost of a batch and of a token or image"
        ),
        device_time_saved=_seconds(row.saved_s, estimated, "unshared less spent, heads charged"),
    )


def _seconds(value: float, basis: content_pb2.Basis, source: str) -> content_pb2.Figure:
    return content_pb2.Figure(value=value, basis=basis, unit="s", source=source)
