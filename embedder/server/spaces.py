"""The spaces that are served, by name and alias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from embedder.encoders.base import EncoderInfo
from embedder.engine.lookup_engine import LookupEngine
from embedder.errors import UnknownSpace


@dataclass(frozen=True, slots=True)
class ServedSpace:
    """One embedding space with the engine that fills it.

    Attributes:
        name: full name, such as `default@1`.
        engine: looks up and computes its vectors.
    """

    name: str
    engine: LookupEngine
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", self.engine.info.space_digest)

    @property
    def info(self) -> EncoderInfo:
        """What its encoder is."""
        return self.engine.info


class Spaces:
    """Finds a space by its full name, by an alias, or by nothing: the first is the default."""

    def __init__(self, spaces: Sequence[ServedSpace]) -> None:
        self._spaces = {space.name: space for space in spaces}
        self._aliases = {name.split("@")[0]: name for name in self._spaces}
        self._default = spaces[0]

    def __iter__(self) -> Iterator[ServedSpace]:
        """Iterate over the spaces, the default one first."""
        return iter(self._spaces.values())

    @property
    def aliases(self) -> Mapping[str, str]:
        """Which space each alias points at."""
        return dict(self._aliases)

    def resolve(self, name: str) -> ServedSpace:
        """Return the space of a name or alias; the default one for an empty name.

        Raises:
            UnknownSpace: no space or alias has this name.
        """
        if not name:
            return self._default
        space = self._spaces.get(self._aliases.get(name, name))
        if space is None:
            known = ", ".join(sorted({*self._spaces, *self._aliases}))
            raise UnknownSpace(f"space={name!r} is not served here; known are {known}")
        return space
