"""Which heads a space's vectors are asked by, and which of them are ready for the space that follows it."""

from __future__ import annotations

from dataclasses import dataclass

from embedder_heads import HeadError, HeadRegistry


@dataclass(frozen=True, slots=True)
class BoundHead:
    """What a head's alias means in an old space, and what it would mean in a new one.

    Attributes:
        name: the head.
        alias: `current` for the bare name, or another alias of it.
        version: the version that answers for the old space.
        successor: the version that would answer for the new one; 0 where there is none.
        is_promoted: whether the alias has been pointed at the successor already.
    """

    name: str
    alias: str
    version: int
    successor: int = 0
    is_promoted: bool = False

    @property
    def reference(self) -> str:
        """How callers name it."""
        return self.name if self.alias == "current" else f"{self.name}@{self.alias}"


def bound_heads(registry: HeadRegistry, old_digest: str, new_digest: str) -> list[BoundHead]:
    """List the heads that answer for one space, by name and alias, each with its successor in another.

    Args:
        registry: the heads.
        old_digest: the space that they answer for, 64 hex digits.
        new_digest: the space that follows it.
    """
    found = []
    for name in registry.names():
        digests: dict[int, str] = {}
        for version in registry.versions(name):
            try:
                digests[version] = registry.load(name, version).manifest.space_digest
            except HeadError:
                continue  # it answers nobody
        successors = [version for version, digest in digests.items() if digest == new_digest]
        for alias, history in sorted(registry.pointing(name).items()):
            old = [version for version in history if digests.get(version) == old_digest]
            new = [version for version in history if digests.get(version) == new_digest]
            if old:
                successor = new[-1] if new else max(successors, default=0)
                found.append(BoundHead(name, alias, old[-1], successor, is_promoted=bool(new)))
    return found


def promote_successors(registry: HeadRegistry, heads: list[BoundHead]) -> list[BoundHead]:
    """Point the aliases of heads at their successors, and return those that were moved.

    Nothing changes for the old space: there an alias goes on meaning the last version of that space.
    """
    moved = [head for head in heads if head.successor and not head.is_promoted]
    for head in moved:
        registry.promote(f"{head.name}@{head.successor}", head.alias)
    return moved
