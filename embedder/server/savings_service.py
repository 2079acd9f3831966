"""SavingsService: what sharing saved."""

from __future__ import annotations

import grpc

from embedder.errors import InvalidRequest
from embedder.savings.report import GroupBy, SavingsQuery
from embedder.server.runtime import RuntimeGate
from embedder.server.savings_messages import report_message
from embedder_client.v1 import savings_service_pb2 as pb
from embedder_client.v1 import savings_service_pb2_grpc as pb_grpc

_GROUPS = {
    pb.SAVINGS_GROUP_UNSPECIFIED: GroupBy.NONE,
    pb.SAVINGS_GROUP_TASK: GroupBy.TASK,
    pb.SAVINGS_GROUP_CLIENT: GroupBy.CLIENT,
    pb.SAVINGS_GROUP_SPACE: GroupBy.SPACE,
    pb.SAVINGS_GROUP_LANE: GroupBy.LANE,
    pb.SAVINGS_GROUP_TENANT: GroupBy.TENANT,
    pb.SAVINGS_GROUP_HEAD: GroupBy.HEAD,
}


class SavingsService(pb_grpc.SavingsServiceServicer):
    """Serves `embedder.v1.SavingsService`."""

    def __init__(self, gate: RuntimeGate) -> None:
        self._gate = gate

    def GetSavings(self, request: pb.GetSavingsRequest, context: grpc.ServicerContext) -> pb.GetSavingsResponse:
        """Report the totals of a time range, by group if asked."""
        return report_message(self._gate.get().savings.make(_query(request)))


def _query(request: pb.GetSavingsRequest) -> SavingsQuery:
    if request.group_by not in _GROUPS:
        raise InvalidRequest(f"group_by={request.group_by}; known are {', '.join(pb.SavingsGroup.keys())}")
    start = request.start_time.ToSeconds()
    end = request.end_time.ToSeconds() if request.HasField("end_time") else None
    if end is not None and end <= start:
        raise InvalidRequest(f"end_time={end} s is not after start_time={start} s")
    return SavingsQuery(
        start=start,
        end=end,
        group_by=_GROUPS[request.group_by],
        task=request.task,
        client=request.client,
        tenant=request.tenant,
        head=request.head,
    )
