"""What heads say, for the wire: a result a head, or one block for very many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import EmbedOutcome
from embedder.errors import InvalidRequest
from embedder.server.replies import packed_float32
from embedder_client.v1 import content_pb2
from embedder_client.v1 import head_service_pb2 as pb
from embedder_heads import HeadManifest, HeadOutput, Task
from embedder_heads.bridge.bridge_file import Bridge
from embedder_heads.plan import HeadPlan

KINDS = {
    Task.SINGLE_LABEL: pb.HEAD_KIND_SINGLE_LABEL,
    Task.MULTI_LABEL: pb.HEAD_KIND_MULTI_LABEL,
    Task.REGRESSION: pb.HEAD_KIND_REGRESSION,
}
"""What a head's scores mean, as the wire numbers it."""


def references(request: pb.PredictRequest) -> list[str]:
    """Return the heads that a call asks; raises InvalidRequest when there is none, or when they are given in both ways."""
    if request.heads and request.head_refs:
        raise InvalidRequest(
            "heads and head_refs are both set; give heads for a result each, or head_refs for one block"
        )
    given = list(request.head_refs) or [selector.head for selector in request.heads]
    if not given:
        raise InvalidRequest("heads is empty; name at least one head, or use Embed for vectors alone")
    return given


def run(
    plan: HeadPlan, request: pb.PredictRequest, outcome: EmbedOutcome
) -> tuple[list[pb.HeadResult], pb.PackedResults | None, npt.NDArray[np.float64]]:
    """Run heads on a call's vectors.

    Returns:
        The results, or else the one block; and each head's seconds.
    """
    vectors = outcome.vectors.astype(np.float32)
    if request.head_refs:
        output = plan.run_packed(vectors)
        if outcome.failures:
            output.scores[:, list(outcome.failures)] = 0.0
        known = request.known_layout == output.layout_digest
        packed = pb.PackedResults(
            scores=packed_float32(output.scores),
            layout_digest=output.layout_digest,
            layout=[] if known else _layout(output.layout),
            compute_seconds=packed_float32(output.head_seconds),
        )
        return [], packed, output.head_seconds
    outputs = plan.run(vectors)
    results = [_result(output, selector, outcome) for output, selector in zip(outputs, request.heads, strict=True)]
    return results, None, np.array([output.device_seconds for output in outputs], np.float64)


def bridge_messages(plan: HeadPlan) -> list[pb.BridgeUse]:
    """Tell the bridges that heads of another space were served over, each with its heads and what is lost by it."""
    used: dict[str, tuple[Bridge, list[str]]] = {}
    for bridge, manifest in zip(plan.bridges, plan.layout, strict=False):
        if bridge is not None:
            used.setdefault(bridge.manifest.reference, (bridge, []))[1].append(f"{manifest.name}@{manifest.version}")
    return [_bridge_message(bridge, heads) for bridge, heads in used.values()]


def _bridge_message(bridge: Bridge, heads: Sequence[str]) -> pb.BridgeUse:
    """Tell one bridge; of what was measured for single heads, that of the call's."""
    losses = {
        name: content_pb2.Figure(
            value=metric.value,
            basis=content_pb2.BASIS_MEASURED,
            unit="1",
            source=f"{metric.method}; 95 % interval {metric.low:.4f} to {metric.high:.4f}",
        )
        for name, metric in bridge.manifest.metrics.items()
        if "." not in name or name.rpartition(".")[0] in heads
    }
    digest = bytes.fromhex(bridge.manifest.target_digest)
    return pb.BridgeUse(bridge=bridge.manifest.reference, heads=heads, head_space_digest=digest, losses=losses)


def _layout(manifests: Sequence[HeadManifest]) -> list[pb.HeadLayout]:
    return [
        pb.HeadLayout(head=m.name, version=m.version, kind=KINDS[m.task], labels=m.labels, thresholds=m.thresholds)
        for m in manifests
    ]


def _result(output: HeadOutput, selector: pb.HeadSelector, outcome: EmbedOutcome) -> pb.HeadResult:
    scores = output.scores  # (n, labels)
    if outcome.failures:
        scores = scores.copy()
        scores[list(outcome.failures)] = 0.0
    indices = b""
    if selector.top_k:
        best = np.argsort(-scores, axis=1, kind="stable")[:, : selector.top_k]  # (n, min(k, labels))
        scores = np.take_along_axis(scores, best, axis=1)
        indices = best.astype("<u4").tobytes()
    return pb.HeadResult(
        head=output.name,
        version=output.version,
        kind=KINDS[output.task],
        labels=output.labels,
        scores=packed_float32(scores),
        columns=scores.shape[1],
        label_indices=indices,
        thresholds=packed_float32(np.array(output.thresholds, np.float32)),
        compute_time=content_pb2.Figure(
            value=output.device_seconds,
            basis=content_pb2.BASIS_ESTIMATED,
            unit="s",
            source="measured time of the call's heads, by this head's share of the multiplications",
        ),
    )
