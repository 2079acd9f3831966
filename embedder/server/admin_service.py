"""AdminService: what an operator sees and changes."""

from __future__ import annotations

import grpc

from embedder.server.contents import check_hashes
from embedder.server.replies import provenance_message
from embedder.server.runtime import RuntimeGate
from embedder.server.spaces import ServedSpace
from embedder.spaces.serving import SpaceState
from embedder_client.v1 import admin_service_pb2 as pb
from embedder_client.v1 import admin_service_pb2_grpc as pb_grpc

_LIMITS = (
    "max_message_bytes",
    "max_items_per_call",
    "max_calls",
    "default_deadline_ms",
    "max_queue_ms",
    "max_bulk_queue_ms",
    "max_text_bytes",
    "max_image_bytes",
    "max_image_pixels",
    "max_image_side",
    "max_image_scans",
    "max_decode_memory_bytes",
    "max_decode_cpu_ms",
    "max_decode_ms",
    "max_video_bytes",
    "max_video_pixels",
    "max_video_seconds",
    "max_video_frames",
    "max_video_sampled_frames",
    "max_video_cpu_ms",
    "max_video_ms",
    "max_video_memory_bytes",
    "max_waiting_videos",
    "max_post_fields",
    "max_uploads",
    "answer_max_tokens",
    "max_waiting_answers",
)
_STATES = {state: f"SPACE_STATE_{state.name}" for state in SpaceState}


class AdminService(pb_grpc.AdminServiceServicer):
    """Serves `embedder.v1.AdminService`."""

    def __init__(self, gate: RuntimeGate) -> None:
        self._gate = gate

    def ListSpaces(self, request: pb.ListSpacesRequest, context: grpc.ServicerContext) -> pb.ListSpacesResponse:
        """List the spaces that are served, the default one first, and the aliases; then those that are known and not served."""
        directory = self._gate.get().directory
        spaces, reports = directory.current, directory.reports()
        served = {space.name for space in spaces}
        states = {report.name: report.state for report in reports}
        aliased = set(spaces.aliases.values())
        unserved = [report for report in reports if report.name not in served]
        return pb.ListSpacesResponse(
            spaces=[
                _space_message(space, states.get(space.name, _state_of(is_aliased=space.name in aliased)))
                for space in spaces
            ],
            aliases=dict(spaces.aliases),
            unserved=[pb.UnservedSpace(name=r.name, state=_STATES[r.state], reason=r.reason) for r in unserved],
        )

    def SetAlias(self, request: pb.SetAliasRequest, context: grpc.ServicerContext) -> pb.SetAliasResponse:
        """Point an alias at another space, at once and for every later start."""
        directory = self._gate.get().directory
        expected = request.expected_space if request.HasField("expected_space") else None
        return pb.SetAliasResponse(previous_space=directory.set_alias(request.alias, request.space, expected=expected))

    def GetCacheStats(
        self, request: pb.GetCacheStatsRequest, context: grpc.ServicerContext
    ) -> pb.GetCacheStatsResponse:
        """Show the cache's size and counters."""
        runtime = self._gate.get()
        stats = runtime.cache.stats()
        response = pb.GetCacheStatsResponse(
            entries=stats.entries,
            size_bytes=stats.file_bytes,
            limit_bytes=stats.max_bytes,
            hits=stats.hits,
            misses=stats.misses,
            corrupt_records=stats.damaged,
            pending_write_bytes=stats.queued_bytes,
            dropped_writes=stats.refused,
            path=str(runtime.settings.cache_path),
        )
        response.started_at.FromNanoseconds(int(runtime.started_at * 1e9))
        return response

    def DeleteContents(
        self, request: pb.DeleteContentsRequest, context: grpc.ServicerContext
    ) -> pb.DeleteContentsResponse:
        """Erase vectors by content hash, from one space or from all, in every tier."""
        runtime = self._gate.get()
        check_hashes(request.content_hashes, max_items=runtime.settings.max_items_per_call)
        served = runtime.spaces
        spaces = [served.resolve(request.space)] if request.space else list(served)
        deleted = sum(space.engine.erase(request.content_hashes) for space in spaces)
        return pb.DeleteContentsResponse(deleted=deleted)

    def GetLimits(self, request: pb.GetLimitsRequest, context: grpc.ServicerContext) -> pb.GetLimitsResponse:
        """Show the limits that contents and calls must keep."""
        runtime = self._gate.get()
        limits = {name: getattr(runtime.settings, name) for name in _LIMITS}
        return pb.GetLimitsResponse(limits=limits, cache_id=runtime.cache_id)


def _state_of(*, is_aliased: bool) -> SpaceState:
    return SpaceState.SERVING if is_aliased else SpaceState.READY


def _space_message(space: ServedSpace, state: SpaceState) -> pb.Space:
    info = space.info
    return pb.Space(
        name=space.name,
        provenance=provenance_message(space),
        dim=info.dim,
        modalities=sorted(info.modalities),
        max_tokens=info.max_tokens,
        device=info.device,
        identity=dict(info.identity),
        state=_STATES[state],
    )
