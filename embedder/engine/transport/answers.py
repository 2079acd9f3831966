"""Answers of an engine: packed rows with their vectors, and errors by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import BatchShape, Source
from embedder.engine.ticket import Delivery
from embedder.engine.transport.error_codec import pack_errors, unpack_errors
from embedder.engine.transport.messages import Frames, Kind
from embedder.errors import EmbedderError

_ANSWER = np.dtype(
    [
        ("id", np.uint64),
        ("device_s", np.float64),
        ("prepare_s", np.float32),
        ("queue_s", np.float32),
        ("encode_s", np.float32),
        ("batch_items", np.uint32),
        ("batch_units", np.float32),
        ("padded_units", np.float32),
        ("source", np.uint8),
    ]
)


@dataclass(slots=True, eq=False)
class Answer:
    """The answer to one entry.

    Attributes:
        id: the entry's.
        source: where its vector came from, or FAILED.
        delivery: what was computed, unless it failed.
        error: why it failed.
    """

    id: int
    source: Source
    delivery: Delivery | None = None
    error: EmbedderError | None = None


_NO_BATCH = BatchShape(items=0, units=0.0, padded_units=0.0)


def pack_answers(answers: Sequence[Answer], *, dim: int) -> list[bytes]:
    """Write answers as one message: rows, vectors of those that have one, (n, dim) float16, and errors."""
    rows: list[tuple[Any, ...]] = []
    vectors: list[npt.NDArray[np.float16]] = []
    errors: dict[int, EmbedderError] = {}
    for answer in answers:
        delivery = answer.delivery
        if delivery is None:
            rows.append((answer.id, 0.0, 0.0, 0.0, 0.0, 0, 0.0, 0.0, Source.FAILED))
            errors[answer.id] = answer.error or EmbedderError("no answer was made")
            continue
        batch = delivery.batch or _NO_BATCH
        rows.append(
            (
                answer.id,
                delivery.device_seconds,
                delivery.prepare_s,
                delivery.queue_s,
                delivery.encode_s,
                batch.items,
                batch.units,
                batch.padded_units,
                answer.source,
            )
        )
        vectors.append(delivery.vector)
    packed_vectors = np.stack(vectors).astype(np.float16, copy=False).tobytes() if vectors else b""
    return [
        Kind.ANSWER,
        dim.to_bytes(4, "little"),
        np.array(rows, _ANSWER).tobytes(),
        packed_vectors,
        pack_errors(errors) if errors else b"",
    ]


def unpack_answers(frames: Frames) -> list[Answer]:
    """Read a message of answers."""
    dim = int.from_bytes(frames[1], "little")
    vectors = iter(np.frombuffer(frames[3], np.float16).reshape(-1, dim))
    errors = unpack_errors(frames[4])
    answers: list[Answer] = []
    rows: npt.NDArray[Any] = np.frombuffer(frames[2], _ANSWER)
    for number, device_s, prepare_s, queue_s, encode_s, items, units, padded, source in rows.tolist():
        if source == Source.FAILED:
            answers.append(Answer(number, Source.FAILED, error=errors[number]))
            continue
        delivery = Delivery(
            vector=next(vectors),
            device_seconds=device_s,
            prepare_s=prepare_s,
            queue_s=queue_s,
            encode_s=encode_s,
            batch=BatchShape(items, units, padded) if items else None,
        )
        answers.append(Answer(number, Source(source), delivery=delivery))
    return answers
