"""Answers onto the wire: packed vectors, per-item sources and errors, provenance and cost."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np

from embedder.engine.contents import BatchShape, EmbedOutcome, HalfVectors
from embedder.errors import EmbedderError, InvalidRequest
from embedder.server.call import Call
from embedder.server.error_table import to_status
from embedder.server.runtime import Runtime
from embedder.server.savings_messages import figure_message
from embedder.server.spaces import ServedSpace
from embedder_cache.derive import VectorDtype, derive
from embedder_client.v1 import content_pb2, embedding_service_pb2

_DTYPES = {
    content_pb2.DTYPE_UNSPECIFIED: VectorDtype.FLOAT16,
    content_pb2.DTYPE_FLOAT16: VectorDtype.FLOAT16,
    content_pb2.DTYPE_FLOAT32: VectorDtype.FLOAT32,
    content_pb2.DTYPE_INT8: VectorDtype.INT8,
    content_pb2.DTYPE_BINARY: VectorDtype.BINARY,
}
_WIRE_DTYPES = {dtype: wire for wire, dtype in _DTYPES.items() if wire != content_pb2.DTYPE_UNSPECIFIED}


_CLOCKS = {"cpu": "CPU time of all cores"}


def check_options(options: embedding_service_pb2.VectorOptions, space: ServedSpace) -> None:
    """Refuse dimensions and dtypes that can't be derived from the space's vectors.

    Raises:
        InvalidRequest: says what was given and what is allowed.
    """
    if options.dim > space.info.dim:
        raise InvalidRequest(f"dim={options.dim} exceeds the encoder's {space.info.dim}")
    if options.dtype not in _DTYPES:
        raise InvalidRequest(f"dtype={options.dtype}; known are {', '.join(content_pb2.Dtype.keys()[1:])}")


def vectors_message(vectors: HalfVectors, options: embedding_service_pb2.VectorOptions) -> content_pb2.Vectors:
    """Pack vectors, (n, dim) float16, as the call asked for them."""
    dim = options.dim or vectors.shape[1]
    dtype = _DTYPES[options.dtype]
    derived = derive(vectors, dim=dim, dtype=dtype)
    return content_pb2.Vectors(
        data=derived.to_bytes(),
        dtype=_WIRE_DTYPES[dtype],
        rows=len(vectors),
        dim=dim,
        scales=b"" if derived.scales is None else derived.scales.astype("<f4").tobytes(),
    )


def sources_of(outcome: EmbedOutcome) -> list[content_pb2.ItemSource]:
    """Return each item's source as the wire numbers it."""
    sources: list[content_pb2.ItemSource] = outcome.sources.tolist()
    return sources


def error_messages(failures: Mapping[int, EmbedderError]) -> list[content_pb2.ItemError]:
    """Tell the failed items, in the order of asking."""
    return [content_pb2.ItemError(index=index, status=to_status(failures[index])) for index in sorted(failures)]


def provenance_message(space: ServedSpace) -> content_pb2.Provenance:
    """Tell which model made a space's vectors."""
    info = space.info
    return content_pb2.Provenance(
        space=space.name, space_digest=space.digest, model=info.model_id, numerics=info.numerics
    )


def cost_message(
    runtime: Runtime, call: Call, space: ServedSpace, outcome: EmbedOutcome, *, heads_s: float = 0.0
) -> content_pb2.Cost:
    """Tell what a call cost in a space, and how its time was spent."""
    timings = outcome.timings
    return content_pb2.Cost(
        device_time=device_time_message(outcome.device_seconds, space.info.device),
        energy=figure_message(runtime.call_energy.of(outcome.device_seconds)),
        device_time_saved=content_pb2.Figure(
            value=outcome.unshared_seconds - outcome.device_seconds,
            basis=content_pb2.BASIS_ESTIMATED,
            unit="s",
            source="measured device seconds of a batch of the call's size, by means over the last batches",
        ),
        timings=content_pb2.Timings(
            total_s=time.monotonic() - call.started_at,
            lookup_s=timings.lookup_s,
            queue_s=timings.queue_s,
            prepare_s=timings.prepare_s,
            encode_s=timings.encode_s,
            store_s=timings.store_s,
            heads_s=heads_s,
        ),
        batch=None if outcome.batch is None else _batch_message(outcome.batch),
    )


def _batch_message(shape: BatchShape) -> content_pb2.BatchShape:
    return content_pb2.BatchShape(
        items=shape.items, units=shape.units, padding_efficiency=shape.units / shape.padded_units
    )


def device_time_message(seconds: float, device: str) -> content_pb2.Figure:
    """Tell measured device time."""
    return content_pb2.Figure(
        value=seconds,
        basis=content_pb2.BASIS_MEASURED,
        unit="s",
        source=f"{_CLOCKS.get(device, 'CUDA events')} around the forward pass on {device}, by the call's share of its batches",
    )


def packed_float32(values: np.ndarray) -> bytes:
    """Pack an array as little-endian float32."""
    return np.ascontiguousarray(values, "<f4").tobytes()
