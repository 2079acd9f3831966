"""Names of heads and indexes: `topic`, `topic@3`, `topic@prod`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedder_heads.errors import HeadNameInvalid

CURRENT = "current"
"""The alias that a bare name means; publishing moves it."""

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")
_ALLOWED = "1 to 64 of a-z, 0-9, '_' and '-', with a letter or digit at both ends"
_MAX_VERSION = 10**9


@dataclass(frozen=True, slots=True)
class Ref:
    """One version or alias of a named artifact.

    Attributes:
        name: the artifact.
        version: the version asked for, from 1; 0 when an alias is asked for.
        alias: the alias asked for; empty when a version is.
    """

    name: str
    version: int
    alias: str

    def __str__(self) -> str:
        return f"{self.name}@{self.version or self.alias}"


def check_name(name: str) -> str:
    """Return a name that is allowed as it stands; raises HeadNameInvalid."""
    if not _NAME.fullmatch(name):
        raise HeadNameInvalid(f"name {name!r} is not allowed; a name is {_ALLOWED}")
    return name


def check_alias(alias: str) -> str:
    """Return an alias that is allowed as it stands, a name that is no number; raises HeadNameInvalid."""
    if not _NAME.fullmatch(alias) or alias.isdigit():
        raise HeadNameInvalid(f"alias {alias!r} is not allowed; an alias is {_ALLOWED}, and no number")
    return alias


def parse_ref(ref: str) -> Ref:
    """Read `name`, `name@version` or `name@alias`; a bare name means `name@current`.

    Raises:
        HeadNameInvalid: it is none of these.
    """
    name, at, target = ref.partition("@")
    check_name(name)
    if not at:
        return Ref(name, 0, CURRENT)
    if target.isascii() and target.isdigit():
        version = int(target) if len(target) < 11 else 0
        if not 1 <= version <= _MAX_VERSION:
            raise HeadNameInvalid(f"version {target!r} of {name} is not allowed; versions are 1 to {_MAX_VERSION}")
        return Ref(name, version, "")
    return Ref(name, 0, check_alias(target))
