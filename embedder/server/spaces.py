"""The spaces that are served at one moment, by name and alias: immutable, so a call that takes it once is answered from one state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from embedder.encoders.base import EncoderInfo
from embedder.engine.composite_engine import CompositeEngine
from embedder.engine.contents import Contents
from embedder.errors import NotImplementedYet, UnknownSpace
from embedder.spaces.document import Shadow
from embedder.spaces.serving import SpaceReport


# Weakly referable: a retired space's engine is closed once no call holds the space any more.
@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class ServedSpace:
    """One embedding space with the engine that fills it.

    Attributes:
        name: full name, such as `default@1`.
        engine: looks up and computes its vectors.
    """

    name: str
    engine: CompositeEngine
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self.engine.info.space_digest)

    @property
    def info(self) -> EncoderInfo:
        """What its encoder is."""
        return self.engine.info


class Spaces:
    """Finds a space by its full name, by an alias, or by nothing, which means the default alias."""

    def __init__(
        self,
        spaces: Sequence[ServedSpace],
        *,
        aliases: Mapping[str, str] | None = None,
        shadows: Mapping[str, Shadow] | None = None,
        default_alias: str = "",
    ) -> None:
        """Hold spaces.

        Args:
            spaces: at least one.
            aliases: which of them each alias points at; None makes each name without its version one.
            shadows: by a space's name, the traffic that is computed in it too.
            default_alias: what an empty name means; empty means the first space.
        """
        self._spaces = {space.name: space for space in spaces}
        self.aliases: Mapping[str, str] = MappingProxyType(
            {name.split("@")[0]: name for name in self._spaces} if aliases is None else dict(aliases)
        )
        self._default = self._spaces[self.aliases.get(default_alias, spaces[0].name)]
        self._shadows_of: dict[str, tuple[tuple[ServedSpace, float], ...]] = {}
        for name, shadow in (shadows or {}).items():
            source = self.aliases.get(shadow.alias, "")
            if source and source != name and shadow.rate > 0:
                self._shadows_of[source] = (*self._shadows_of.get(source, ()), (self._spaces[name], shadow.rate))

    def __iter__(self) -> Iterator[ServedSpace]:
        """Iterate over the spaces, the default one first."""
        yield self._default
        yield from (space for space in self._spaces.values() if space is not self._default)

    def resolve(self, name: str) -> ServedSpace:
        """Return the space of a name or alias; the default one for an empty name.

        Raises:
            UnknownSpace: no space or alias has this name.
        """
        if not name:
            return self._default
        space = self._spaces.get(self.aliases.get(name, name))
        if space is None:
            known = ", ".join(sorted({*self._spaces, *self.aliases}))
            raise UnknownSpace(f"space={name!r} is not served here; known are {known}")
        return space

    def shadows_of(self, space: ServedSpace) -> tuple[tuple[ServedSpace, float], ...]:
        """Return the spaces in which a share of this one's contents is computed too, each with the share."""
        return self._shadows_of.get(space.name, ())


class SpaceResolver(Protocol):
    """Finds a space by name."""

    def resolve(self, name: str) -> ServedSpace:
        """Return the space of a name or alias; raises UnknownSpace."""
        ...


class PinnedSpaces:
    """The spaces of one stream: a name means to its end what it meant when the stream first used it."""

    def __init__(self, directory: SpaceDirectory) -> None:
        self._directory = directory
        self._pinned: dict[str, ServedSpace] = {}

    def resolve(self, name: str) -> ServedSpace:
        """Return the space of a name or alias; raises UnknownSpace."""
        if name not in self._pinned:
            self._pinned[name] = self._directory.current.resolve(name)
        return self._pinned[name]


class SpaceDirectory(Protocol):
    """Where the services find the spaces, as they are now."""

    @property
    def current(self) -> Spaces:
        """The spaces at this moment; a call takes it once."""
        ...

    def reports(self) -> Sequence[SpaceReport]:
        """Say of each space how it is, those that are loading or were refused among them."""
        ...

    def set_alias(self, alias: str, space: str, *, expected: str | None) -> str:
        """Point an alias at a space, for this and every later start; returns where it pointed before, or an empty text.

        Raises:
            InvalidRequest, UnknownSpace, SpaceConflict: see `SpacesDocument.with_alias`.
        """
        ...

    def shadow(self, space: ServedSpace, contents: Contents) -> None:
        """Compute a sample of a call's contents in the spaces that shadow this one; returns at once."""
        ...


class FixedSpaces:
    """Spaces that stay as they are: those of front-ends, whose engines are processes of their own."""

    def __init__(self, spaces: Spaces) -> None:
        self.current = spaces

    def reports(self) -> Sequence[SpaceReport]:
        """Say nothing beside what is served."""
        return ()

    def set_alias(self, alias: str, space: str, *, expected: str | None) -> str:
        """Refuse: the front-ends could not move together."""
        raise NotImplementedYet(
            "aliases are moved by a service of one process: --frontends and several --devices serve one space so far, and "
            "its alias is its name without the version"
        )

    def shadow(self, space: ServedSpace, contents: Contents) -> None:
        """Do nothing: nothing shadows the one space."""
