"""Strict JSON manifests: every field has one type, none is missing and none is unknown."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import NoReturn, TypeVar

from embedder_heads.errors import HeadError

Choice = TypeVar("Choice", bound=StrEnum)
_MAX_BYTES = 64 << 20


class Fields:
    """The fields of one JSON object, each taken once; every fault raises the error type that the reader chose."""

    def __init__(self, document: object, *, where: str, error: type[HeadError]) -> None:
        self._where = where
        self._error = error
        if not isinstance(document, dict):
            raise error(f"{where} is not a JSON object")
        self._left: dict[str, object] = dict(document)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def nested(self, name: str) -> Fields:
        """Take an object; returns its fields."""
        return Fields(self._take(name), where=f"{self._where}: {name}", error=self._error)

    def text(self, name: str) -> str:
        """Take a string."""
        value = self._take(name)
        return value if isinstance(value, str) else self._refuse(name, "a string")

    def integer(self, name: str) -> int:
        """Take a whole number that is not negative."""
        value = self._take(name)
        return value if type(value) is int and value >= 0 else self._refuse(name, "a whole number from 0")

    def number(self, name: str) -> float:
        """Take a finite number."""
        return self._number(name, self._take(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of strings."""
        value = self._take(name)
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self._refuse(name, "a list of strings")
        return tuple(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Take a list of finite numbers."""
        value = self._take(name)
        if not isinstance(value, list):
            self._refuse(name, "a list of numbers")
        return tuple(self._number(name, entry) for entry in value)

    def choice(self, name: str, choices: type[Choice]) -> Choice:
        """Take one of an enumeration's values."""
        value = self.text(name)
        if value not in {choice.value for choice in choices}:
            self._refuse(name, "one of " + ", ".join(choices))
        return choices(value)

    def scalars(self, name: str) -> dict[str, str | int | float]:
        """Take an object whose values are strings and finite numbers."""
        value = self._take(name)
        if not isinstance(value, dict):
            self._refuse(name, "an object")
        scalars: dict[str, str | int | float] = {}
        for key, entry in value.items():
            scalars[key] = entry if isinstance(entry, str | int) else self._number(f"{name}.{key}", entry)
        return scalars

    def mapping(self, name: str) -> Iterator[tuple[str, Fields]]:
        """Take an object of objects; yields each key with its fields."""
        value = self._take(name)
        if not isinstance(value, dict):
            self._refuse(name, "an object")
        for key, entry in value.items():
            yield key, Fields(entry, where=f"{self._where}: {name}.{key}", error=self._error)

    def objects(self, name: str) -> Iterator[Fields]:
        """Take a list of objects; yields the fields of each."""
        value = self._take(name)
        if not isinstance(value, list):
            self._refuse(name, "a list")
        for number, entry in enumerate(value):
            yield Fields(entry, where=f"{self._where}: {name}[{number}]", error=self._error)

    def done(self) -> None:
        """Refuse fields that nobody took."""
        if self._left:
            raise self._error(f"{self._where} has unknown fields: {', '.join(sorted(self._left))}")

    def _take(self, name: str) -> object:
        if name not in self._left:
            raise self._error(f"{self._where} lacks the field {name!r}")
        return self._left.pop(name)

    def _number(self, name: str, value: object) -> float:
        if type(value) not in (int, float) or not math.isfinite(value):  # type: ignore[arg-type]
            self._refuse(name, "a finite number")
        return float(value)  # type: ignore[arg-type]

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise self._error(f"{self._where}: field {name!r} is not {wanted}")


def read_manifest(path: Path, *, schema: int, error: type[HeadError]) -> Fields:
    """Read a manifest of one schema.

    Args:
        path: the JSON file.
        schema: the only schema number that is understood.
        error: the type that every fault raises.
    Returns:
        Its fields, `schema` taken.
    """
    try:
        if path.is_symlink() or path.stat().st_size > _MAX_BYTES:
            raise error(f"{path.name} is a link or larger than {_MAX_BYTES} bytes")
        document = json.loads(path.read_bytes())
    except OSError as fault:
        raise error(f"{path.name} can't be read: {fault.strerror}") from fault
    except (ValueError, RecursionError) as fault:
        raise error(f"{path.name} is not JSON: {fault}") from fault
    fields = Fields(document, where=path.name, error=error)
    given = fields.integer("schema")
    if given != schema:
        raise error(f"{path.name} has schema {given}; this version reads schema {schema}")
    return fields


def write_manifest(path: Path, document: dict[str, object]) -> None:
    """Write a manifest as indented JSON; NaN and infinity are refused with ValueError."""
    path.write_text(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
