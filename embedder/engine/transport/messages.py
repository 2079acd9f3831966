"""What front-ends and engines tell each other: small headers and packed arrays, many contents a message.

A message is a few frames: its kind (one byte), then arrays of the types below. Times are `time.monotonic()` seconds, which is one
clock for all processes of a machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from embedder.engine.contents import EmbedOptions, Lane
from embedder.engine.transport.pixel_pool import SlotReference
from embedder_client.content_hash import HASH_BYTES, Modality

Frames = Sequence[bytes]


class Kind(bytes, Enum):
    """The first frame of a message."""

    SUBMIT = b"S"  # front-end to engine: contents that are wanted
    ABANDON = b"X"  # front-end to engine: entries that nobody waits for any more
    ANSWER = b"A"  # engine to front-end: one answer for each entry
    FREE = b"F"  # engine to front-end: slots that were read


_GROUP = np.dtype(
    [
        ("lane", np.uint8),
        ("durable", np.uint8),
        ("caller", np.uint16),
        ("deadline", np.float64),
        ("asked_at", np.float64),
    ]
)
_ENTRY = np.dtype(
    [
        ("id", np.uint64),
        ("write", np.uint64),
        ("hash", f"V{HASH_BYTES}"),
        ("group", np.uint32),
        ("tokens", np.uint32),
        ("slot", np.uint32),
        ("prepare_s", np.float32),
        ("modality", np.uint8),
    ]
)
_BY_HASH_ALONE = 0
_MODALITIES = {Modality.TEXT: 1, Modality.IMAGE: 2}
_BY_NUMBER = {number: modality for modality, number in _MODALITIES.items()}


@dataclass(slots=True, eq=False)
class Entry:
    """One content that a front-end asks an engine for.

    Attributes:
        id: the front-end's number for it; its answer bears the same.
        content_hash: 32 bytes.
        options: for whom, how urgently, until when.
        asked_at: when the cache was looked into first, seconds since 1970.
        modality: its medium; None when only the hash is known, or when it was sent before and this entry joins it.
        tokens: a text's (t,) int32.
        slot: where an image's pixels lie.
        prepare_s: seconds of tokenizing or decoding.
    """

    id: int
    content_hash: bytes
    options: EmbedOptions
    asked_at: float
    modality: Modality | None = None
    tokens: npt.NDArray[np.int32] | None = None
    slot: SlotReference | None = None
    prepare_s: float = 0.0


def pack_submit(entries: Iterable[Entry]) -> list[bytes]:
    """Write entries as one message."""
    groups: dict[tuple[object, ...], int] = {}
    options_of: list[EmbedOptions] = []
    asked_at: list[float] = []
    rows: list[tuple[Any, ...]] = []
    for entry in entries:
        o = entry.options
        # What concerns posts and videos stays in the front-end, which takes them apart.
        key = (o.lane, o.durable, o.deadline, *_caller(o))
        group = groups.setdefault(key, len(groups))
        if group == len(asked_at):
            options_of.append(o)
            asked_at.append(entry.asked_at)
        asked_at[group] = min(asked_at[group], entry.asked_at)
        slot = entry.slot or SlotReference(0, 0)
        tokens = 0 if entry.tokens is None else len(entry.tokens)
        modality = _BY_HASH_ALONE if entry.modality is None else _MODALITIES[entry.modality]
        rows.append((entry.id, slot.write, entry.content_hash, group, tokens, slot.slot, entry.prepare_s, modality))
    callers: dict[tuple[str, ...], int] = {}
    packed_groups = np.array(
        [
            (o.lane, o.durable, callers.setdefault(_caller(o), len(callers)), o.deadline, asked)
            for o, asked in zip(options_of, asked_at, strict=True)
        ],
        _GROUP,
    )
    tokens_of = [entry.tokens for entry in entries if entry.tokens is not None]
    packed_tokens = np.concatenate(tokens_of).astype(np.int32, copy=False).tobytes() if tokens_of else b""
    return [
        Kind.SUBMIT,
        json.dumps(list(callers)).encode(),
        packed_groups.tobytes(),
        np.array(rows, _ENTRY).tobytes(),
        packed_tokens,
    ]


def _caller(options: EmbedOptions) -> tuple[str, ...]:
    """Say whom the ledger counts the work for, and where its traces go on."""
    return (options.task, options.client, options.tenant, options.head, options.traceparent)


def unpack_submit(frames: Frames) -> list[list[Entry]]:
    """Read a message of entries, one list for each group of the same options."""
    callers: list[list[str]] = json.loads(frames[1])
    groups: npt.NDArray[Any] = np.frombuffer(frames[2], _GROUP)
    rows: npt.NDArray[Any] = np.frombuffer(frames[3], _ENTRY)
    tokens = np.frombuffer(frames[4], np.int32)
    options = [
        EmbedOptions(
            deadline=float(group["deadline"]),
            lane=Lane(int(group["lane"])),
            durable=bool(group["durable"]),
            task=callers[int(group["caller"])][0],
            client=callers[int(group["caller"])][1],
            tenant=callers[int(group["caller"])][2],
            head=callers[int(group["caller"])][3],
            traceparent=callers[int(group["caller"])][4],
        )
        for group in groups
    ]
    entries: list[list[Entry]] = [[] for _ in groups]
    end = 0
    for number, write, content_hash, group, length, slot, prepare_s, medium in rows.tolist():
        start, end = end, end + length
        modality = _BY_NUMBER.get(medium)
        entry = Entry(
            id=number,
            content_hash=content_hash,
            options=options[group],
            asked_at=float(groups["asked_at"][group]),
            modality=modality,
            tokens=tokens[start:end] if modality is Modality.TEXT else None,
            slot=SlotReference(slot, write) if modality is Modality.IMAGE else None,
            prepare_s=prepare_s,
        )
        entries[group].append(entry)
    return entries


def pack_numbers(kind: Kind, numbers: Iterable[int]) -> list[bytes]:
    """Write entry ids or slots as one message."""
    return [kind, np.array(list(numbers), np.uint64).tobytes()]


def unpack_numbers(frames: Frames) -> list[int]:
    """Read what `pack_numbers` wrote."""
    numbers: list[int] = np.frombuffer(frames[1], np.uint64).tolist()
    return numbers
