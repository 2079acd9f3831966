"""Errors between processes: their type's name, their words and their fields, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from embedder import errors
from embedder.errors import EmbedderError

_BY_NAME: Mapping[str, type[EmbedderError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, EmbedderError)
}


def pack_errors(failures: Mapping[int, EmbedderError]) -> bytes:
    """Write errors by their number."""
    return json.dumps(
        {str(number): [type(error).__name__, str(error), vars(error)] for number, error in failures.items()}
    ).encode()


def unpack_errors(packed: bytes) -> dict[int, EmbedderError]:
    """Read what `pack_errors` wrote; a type that is not known here comes back as the root of the tree."""
    given: dict[str, tuple[str, str, dict[str, Any]]] = json.loads(packed) if packed else {}
    return {
        int(number): _BY_NAME.get(name, EmbedderError)(message, **fields)
        for number, (name, message, fields) in given.items()
    }
