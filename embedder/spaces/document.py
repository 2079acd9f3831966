"""What the registry of spaces says: spaces, where aliases point, and how they came to; immutable, each change makes another."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from embedder.errors import InvalidRequest, SpaceConflict, SpacesInvalid, UnknownSpace

SCHEMA = 1

_SPACE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}@[1-9][0-9]{0,8}")
_ALIAS = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOST_MOVES = 1_000


@dataclass(frozen=True, slots=True)
class Shadow:
    """A sample of another space's traffic that is computed in this one too.

    Attributes:
        alias: whose traffic: of the space that this alias points at.
        rate: which share of its contents, 0 to 1, by their hash.
    """

    alias: str
    rate: float


@dataclass(frozen=True, slots=True)
class SpaceRow:
    """One embedding space.

    Attributes:
        name: name and version, such as `default@2`.
        model: what makes its vectors, as `--model` takes it.
        precision: numerics, as `--precision` takes them.
        created: when it was added, ISO 8601 in UTC.
        digest: 64 hex digits over everything that shapes a vector, once it was loaded; empty before.
        dim: length of a vector, once it was loaded; 0 before.
        shadow: the traffic that is computed in it too; None for none.
        retired: when it was retired, ISO 8601 in UTC; empty while it is loaded.
        erase: whether its vectors still have to be erased from the cache.
    """

    name: str
    model: str
    precision: str = "auto"
    created: str = ""
    digest: str = ""
    dim: int = 0
    shadow: Shadow | None = None
    retired: str = ""
    erase: bool = False


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move of an alias.

    Attributes:
        alias: which.
        before: the space that it pointed at; empty when it was new.
        after: the space that it pointed at from then on.
        at: when, ISO 8601 in UTC.
        reason: why, in the operator's words.
        is_rollback: whether it went back to where it had been.
    """

    alias: str
    before: str
    after: str
    at: str
    reason: str = ""
    is_rollback: bool = False


@dataclass(frozen=True, slots=True)
class BridgeRow:
    """A map from one space's vectors to another's that the operator lets heads be served by.

    Attributes:
        name: the bridge as it is published, such as `default-2-to-1@1`.
        source: digest of the space whose vectors it takes, 64 hex digits.
        target: digest of the space whose heads it serves, 64 hex digits.
    """

    name: str
    source: str
    target: str


@dataclass(frozen=True, slots=True)
class SpacesDocument:
    """All of it.

    Attributes:
        revision: raised by every change.
        spaces: in the order of their making; the retired ones too, so that a name is never used twice.
        aliases: which space each points at.
        moves: the moves of aliases, oldest first.
        bridges: those that are allowed.
        default_alias: the alias that a call without a space means.
    """

    revision: int = 0
    spaces: tuple[SpaceRow, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)
    moves: tuple[AliasMove, ...] = ()
    bridges: tuple[BridgeRow, ...] = ()
    default_alias: str = "default"

    @property
    def live(self) -> tuple[SpaceRow, ...]:
        """The spaces that are not retired."""
        return tuple(row for row in self.spaces if not row.retired)

    def row(self, name: str) -> SpaceRow:
        """Return a space that is not retired, by its full name.

        Raises:
            UnknownSpace: there is none, or it is retired.
        """
        for row in self.spaces:
            if row.name == name:
                if row.retired:
                    raise UnknownSpace(f"space {name!r} was retired on {row.retired}")
                return row
        known = ", ".join(row.name for row in self.live) or "none"
        raise UnknownSpace(f"there is no space {name!r}; there are {known}")

    def target(self, name: str) -> SpaceRow:
        """Return a space by its full name or by an alias; raises UnknownSpace."""
        return self.row(self.aliases.get(name, name))

    def with_space(self, row: SpaceRow) -> SpacesDocument:
        """Add a space.

        Raises:
            InvalidRequest: its name is none.
            SpaceConflict: the name was used before.
        """
        check_space_name(row.name)
        if any(known.name == row.name for known in self.spaces):
            raise SpaceConflict(
                f"space {row.name!r} is there already, or was; a name is used once: raise its version, such as {_next(row.name)}"
            )
        if row.name in self.aliases:
            raise SpaceConflict(f"{row.name!r} is an alias")
        return replace(self, spaces=(*self.spaces, replace(row, created=row.created or now())))

    def with_row(self, row: SpaceRow) -> SpacesDocument:
        """Change what is said of a space."""
        return replace(self, spaces=tuple(row if known.name == row.name else known for known in self.spaces))

    def without_space(self, name: str) -> SpacesDocument:
        """Forget a space that was never served, so that its name is free again.

        Raises:
            UnknownSpace: there is none.
            SpaceConflict: it was loaded once: vectors of this name may be held.
        """
        row = self.row(name)
        if row.digest:
            raise SpaceConflict(f"space {name!r} was served; retire it instead")
        return replace(self, spaces=tuple(known for known in self.spaces if known.name != name))

    def with_alias(self, move: AliasMove, *, expected: str | None = None) -> SpacesDocument:
        """Point an alias at a space.

        Args:
            move: where it goes, and why; `before` and `at` are filled in here.
            expected: the space that it must point at now, or empty for none; None takes any.
        Raises:
            InvalidRequest: the alias is no name.
            UnknownSpace: there is no such space.
            SpaceConflict: the alias points elsewhere than `expected`.
        """
        if not _ALIAS.fullmatch(move.alias):
            raise InvalidRequest(
                f"alias={move.alias!r}: an alias is up to 63 small letters, digits, '-' and '_', such as 'default'"
            )
        self.row(move.after)
        before = self.aliases.get(move.alias, "")
        if expected is not None and expected != before:
            raise SpaceConflict(
                f"alias {move.alias!r} points at {before or 'nothing'}, not at {expected or 'nothing'}: somebody moved it meanwhile"
            )
        if before == move.after:
            return self
        moves = (*self.moves, replace(move, before=before, at=now()))[-_MOST_MOVES:]
        return replace(self, aliases={**self.aliases, move.alias: move.after}, moves=moves)

    def earlier_target(self, alias: str) -> str:
        """Return the space that an alias goes back to: the one before the move that brought it where it is.

        Raises:
            UnknownSpace: there is no such alias, or nothing that is still there to go back to.
        """
        if alias not in self.aliases:
            raise UnknownSpace(f"there is no alias {alias!r}; there are {', '.join(sorted(self.aliases)) or 'none'}")
        here = self.aliases[alias]
        live = {row.name for row in self.live}
        # A rollback is no step of the way: what it left is not where the next one goes.
        for move in reversed([move for move in self.moves if move.alias == alias and not move.is_rollback]):
            if move.after == here and move.before in live:
                return move.before
        raise UnknownSpace(f"alias {alias!r} has pointed at {here} alone, or what it pointed at before is retired")

    def with_retired(self, name: str, *, erase: bool) -> SpacesDocument:
        """Retire a space.

        Raises:
            UnknownSpace: there is none, or it is retired.
            SpaceConflict: an alias points at it, or it is the last one.
        """
        row = self.row(name)
        pointing = sorted(alias for alias, target in self.aliases.items() if target == name)
        if pointing:
            raise SpaceConflict(
                f"space {name!r} is what alias {', '.join(pointing)} points at; cut over to another space, or roll back, first"
            )
        bridges = tuple(bridge for bridge in self.bridges if row.digest != bridge.source)
        retired = replace(row, retired=now(), erase=erase, shadow=None)
        return replace(self.with_row(retired), bridges=bridges)

    def with_bridge(self, bridge: BridgeRow) -> SpacesDocument:
        """Allow a bridge, in place of another one between the same spaces."""
        return replace(self, bridges=(*self.without_bridge(bridge).bridges, bridge))

    def without_bridge(self, bridge: BridgeRow) -> SpacesDocument:
        """Forbid every bridge between the same two spaces."""
        ends = (bridge.source, bridge.target)
        return replace(self, bridges=tuple(one for one in self.bridges if (one.source, one.target) != ends))


def first_document(name: str, *, model: str, precision: str) -> SpacesDocument:
    """Return what is so where no registry is: one space, and its name without the version as an alias for it."""
    row = SpaceRow(name=name, model=model, precision=precision)
    alias = name.split("@", maxsplit=1)[0]
    return SpacesDocument(spaces=(row,), aliases={alias: name}, default_alias=alias)


def check_space_name(name: str) -> str:
    """Return a name that is one; raises InvalidRequest."""
    if not _SPACE_NAME.fullmatch(name):
        raise InvalidRequest(
            f"space={name!r}: a space is NAME@VERSION in small letters, digits, '-' and '_', such as 'default@2'"
        )
    return name


def now() -> str:
    """Return the time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def to_json(document: SpacesDocument) -> dict[str, Any]:
    """Return a document as JSON takes it."""
    return {"schema": SCHEMA, **asdict(document)}


def from_json(given: Any, *, where: str) -> SpacesDocument:
    """Read a document.

    Raises:
        SpacesInvalid: it is none; says what is wrong.
    """
    try:
        if given["schema"] != SCHEMA:
            raise SpacesInvalid(f"{where} has schema {given['schema']}; this version reads schema {SCHEMA}")
        document = SpacesDocument(
            revision=int(given["revision"]),
            spaces=tuple(_row(row) for row in given["spaces"]),
            aliases={str(alias): str(target) for alias, target in given["aliases"].items()},
            moves=tuple(AliasMove(**move) for move in given["moves"]),
            bridges=tuple(BridgeRow(**bridge) for bridge in given["bridges"]),
            default_alias=str(given["default_alias"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SpacesInvalid(f"{where} is no registry of spaces: {error!r}") from error
    _check(document, where=where)
    return document


def _row(given: Any) -> SpaceRow:
    shadow = given["shadow"]
    return SpaceRow(**{**given, "shadow": None if shadow is None else Shadow(**shadow)})


def _check(document: SpacesDocument, *, where: str) -> None:
    names = [row.name for row in document.spaces]
    for name in names:
        if not _SPACE_NAME.fullmatch(name):
            raise SpacesInvalid(f"{where}: {name!r} is no name of a space")
    if repeated := _repeated(names):
        raise SpacesInvalid(f"{where}: {repeated!r} stands there twice")
    live = {row.name for row in document.live}
    for alias, target in document.aliases.items():
        if target not in live:
            raise SpacesInvalid(f"{where}: alias {alias!r} points at {target!r}, which is no space or retired")
    if document.default_alias not in document.aliases:
        raise SpacesInvalid(f"{where}: the default alias {document.default_alias!r} points at no space")


def _repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return ""


def _next(name: str) -> str:
    base, _, version = name.partition("@")
    return f"{base}@{int(version) + 1}"
