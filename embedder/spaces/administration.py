"""What an operator does with spaces: each step checks, writes the registry, and waits until the running service has followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedder.errors import InvalidRequest, SpaceConflict, UnknownSpace
from embedder.spaces.document import (
    AliasMove,
    BridgeRow,
    Shadow,
    SpaceRow,
    SpacesDocument,
    check_space_name,
    first_document,
)
from embedder.spaces.registry import SpaceRegistry
from embedder.spaces.serving import ServingReport, SpaceReport, SpaceState, read_serving, wait_for

if TYPE_CHECKING:
    from embedder.spaces.bound_heads import BoundHead
    from embedder_heads import HeadRegistry

_IS_UP = frozenset({SpaceState.READY, SpaceState.SHADOW, SpaceState.SERVING})


@dataclass(frozen=True, slots=True)
class Move:
    """An alias was moved.

    Attributes:
        before: where it pointed.
        after: where it points.
        is_followed: whether a running service serves it so by now; False where none runs.
        heads: heads whose aliases were pointed at their versions in the new space.
    """

    before: str
    after: str
    is_followed: bool
    heads: tuple[BoundHead, ...] = ()


class HeadsMissing(SpaceConflict):
    """Heads that answer for the old space would answer nobody in the new one.

    Attributes:
        heads: all heads of the old space.
    """

    def __init__(self, heads: Sequence[BoundHead], *, are_published: bool) -> None:
        missing = [head.reference for head in heads if not head.successor]
        waiting = [head.reference for head in heads if head.successor and not head.is_promoted]
        words = []
        if missing:
            words.append(f"no version in the new space: {', '.join(missing)}")
        if waiting and not are_published:
            words.append(f"a version in the new space that its name does not mean there yet: {', '.join(waiting)}")
        super().__init__(f"{len(heads)} heads answer for the old space, and of them have " + "; ".join(words))
        self.heads = tuple(heads)


class SpaceAdministration:
    """Changes the spaces of one data folder, with or without a service that runs on it."""

    def __init__(self, data_dir: Path, *, defaults: Callable[[], SpacesDocument], wait_s: float = 10.0) -> None:
        """Look after a data folder.

        Args:
            data_dir: the service's.
            defaults: what is so where neither a registry is nor a service ever ran.
            wait_s: how long a running service is waited for when it has nothing to load.
        """
        self.data_dir = data_dir
        self.registry = SpaceRegistry(data_dir)
        self._defaults = defaults
        self._wait_s = wait_s

    def serving(self) -> ServingReport | None:
        """Return what the running service says; None where none runs.

        Raises:
            SpaceConflict: it is one that does not follow the registry.
        """
        report = read_serving(self.data_dir)
        if report is None or not report.is_running:
            return None
        if report.refused:
            raise SpaceConflict(f"the running service does not follow the registry of spaces: {report.refused}")
        return report

    def document(self) -> SpacesDocument:
        """Return which spaces there are, by the registry, or as a service without one has or would have them."""
        return self.registry.read() or self._first()

    def create(self, row: SpaceRow, *, wait_s: float) -> SpaceReport | None:
        """Add a space, and wait until the running service has loaded it.

        Returns:
            What the service says of it; None where none runs, or it has not come to it in time.
        Raises:
            SpaceConflict: the name was used, or the service refused the space: it is not added then.
        """
        self.serving()
        revision = self._change(lambda document: document.with_space(row)).revision

        def is_decided(report: ServingReport) -> bool:
            space = report.space_report(row.name) if report.revision >= revision else None
            return space is not None and space.state is not SpaceState.LOADING

        report = wait_for(self.data_dir, is_decided, wait_s=wait_s)
        space = report.space_report(row.name) if report else None
        if space is not None and space.state is SpaceState.REFUSED:
            self._change(lambda document: document.without_space(row.name))
            raise SpaceConflict(f"the service refused {row.name}, and nothing has changed: {space.reason}")
        return space

    def shadow(self, name: str, shadow: Shadow | None) -> None:
        """Compute a sample of an alias's traffic in a space too, or stop doing so.

        Raises:
            InvalidRequest: the rate is none, or the space would shadow itself.
        """
        if shadow is not None and not 0 < shadow.rate <= 1:
            raise InvalidRequest(f"rate={shadow.rate}: a share of the traffic is over 0 and at most 1")

        def change(document: SpacesDocument) -> SpacesDocument:
            if shadow is not None and document.target(shadow.alias).name == name:
                raise InvalidRequest(f"alias {shadow.alias!r} points at {name} itself: there is nothing to shadow")
            return document.with_row(replace(document.row(name), shadow=shadow))

        self._change(change)

    def cut_over(self, alias: str, name: str, *, heads: HeadRegistry, policy: str = "block", reason: str = "") -> Move:
        """Point an alias at another space.

        Args:
            heads: the heads that answer for its vectors.
            policy: `block`: refuse while a head of the old space has none that its name means in the new one; `move`: point the
                heads' names at their versions of the new space first, and refuse where one has none; `bridge`: the same, where
                those without are served by an allowed bridge; `leave`: ask nothing of the heads.
            reason: why, for the history.
        Raises:
            HeadsMissing: heads would be left behind.
            SpaceConflict: the space is not ready.
            UnknownSpace: there is no such space.
        """
        report = self.serving()
        document = self.document()
        old = document.aliases.get(alias, "")
        self._check_ready(report, document.row(name))
        moved: list[BoundHead] = []
        if old and old != name and policy != "leave":
            moved = self._move_heads(document, old, name, heads, policy)
        move = AliasMove(alias, "", name, "", reason=reason)
        return self._move(move, expected=old, heads=tuple(moved))

    def rollback(self, alias: str, *, reason: str = "") -> Move:
        """Point an alias back at the space that it was moved from; the heads follow by themselves.

        Raises:
            UnknownSpace: there is nothing to go back to.
            SpaceConflict: the space is not ready.
        """
        report = self.serving()
        document = self.document()
        target = document.earlier_target(alias)
        self._check_ready(report, document.row(target))
        move = AliasMove(alias, "", target, "", reason=reason, is_rollback=True)
        return self._move(move, expected=document.aliases[alias])

    def retire(self, name: str, *, erase: bool, wait_s: float) -> bool:
        """Take a space out of service.

        Args:
            erase: whether its vectors are erased from the cache too.
            wait_s: how long the running service may take to close it.
        Returns:
            Whether a running service has closed it by now; False where none runs: the next start does not load it.
        Raises:
            SpaceConflict: an alias points at it.
        """
        self.serving()
        revision = self._change(lambda document: document.with_retired(name, erase=erase)).revision

        def is_gone(report: ServingReport) -> bool:
            return report.revision >= revision and report.space_report(name) is None

        return wait_for(self.data_dir, is_gone, wait_s=wait_s) is not None

    def allow_bridge(self, bridge: BridgeRow) -> None:
        """Let heads of a bridge's target space be served for vectors of its source space."""
        self._change(lambda document: document.with_bridge(bridge))

    def forbid_bridge(self, ends: BridgeRow) -> None:
        """Serve no head over a bridge between two spaces any more."""
        self._change(lambda document: document.without_bridge(ends))

    def _move_heads(
        self, document: SpacesDocument, old: str, new: str, registry: HeadRegistry, policy: str
    ) -> list[BoundHead]:
        from embedder.spaces.bound_heads import (  # a rollback does without, and is quicker
            bound_heads,
            promote_successors,
        )

        old_digest, new_digest = (self.digest_of(document, name) for name in (old, new))
        heads = bound_heads(registry, old_digest, new_digest)
        bridged = policy == "bridge" and any(
            (bridge.source, bridge.target) == (new_digest, old_digest) for bridge in document.bridges
        )
        ready = [head for head in heads if (head.is_promoted if policy == "block" else head.successor)]
        if len(ready) < len(heads) and not bridged:
            raise HeadsMissing(heads, are_published=policy != "block")
        return [] if policy == "block" else promote_successors(registry, heads)

    def digest_of(self, document: SpacesDocument, name: str) -> str:
        """Return a space's digest, 64 hex digits; raises SpaceConflict where it was never loaded."""
        return self._identity_of(document, name)[0]

    def dim_of(self, document: SpacesDocument, name: str) -> int:
        """Return the length of a space's vectors; raises SpaceConflict where it was never loaded."""
        return self._identity_of(document, name)[1]

    def _identity_of(self, document: SpacesDocument, name: str) -> tuple[str, int]:
        """Return what is known of a space, by the registry or by the service that has it loaded."""
        row = document.target(name)
        if row.digest:
            return row.digest, row.dim
        report = read_serving(self.data_dir)
        space = report.space_report(row.name) if report else None
        if space is None or not space.digest:
            raise SpaceConflict(
                f"space {row.name!r} was never loaded, so nothing is known of its vectors: start the service"
            )
        return space.digest, space.dim

    def _check_ready(self, report: ServingReport | None, row: SpaceRow) -> None:
        """Refuse a space that the running service could not serve at once, or that was never loaded where none runs."""
        if report is None:
            if not row.digest:
                raise SpaceConflict(
                    f"space {row.name!r} was never loaded, and no service runs on {self.data_dir}: start it, so that it is tried"
                )
            return
        space = report.space_report(row.name)
        if space is None or space.state not in _IS_UP:
            how = "not known to the running service yet" if space is None else f"{space.state}"
            why = f": {space.reason}" if space is not None and space.reason else ""
            raise SpaceConflict(f"space {row.name!r} is {how}{why}; an alias can point at it once it is ready")

    def _move(self, move: AliasMove, *, expected: str, heads: tuple[BoundHead, ...] = ()) -> Move:
        document = self._change(lambda document: document.with_alias(move, expected=expected))

        def is_followed(report: ServingReport) -> bool:
            return report.revision >= document.revision and report.aliases.get(move.alias) == move.after

        report = wait_for(self.data_dir, is_followed, wait_s=self._wait_s)
        return Move(expected, move.after, report is not None, heads)

    def _change(self, change: Callable[[SpacesDocument], SpacesDocument]) -> SpacesDocument:
        return self.registry.change(change, first=None if self.registry.path.exists() else self._first())

    def _first(self) -> SpacesDocument:
        report = read_serving(self.data_dir)
        if report is None:
            return self._defaults()
        document = first_document(report.space, model=report.model, precision=report.precision)
        space = report.space_report(report.space)
        if space is None or not space.digest:
            return document
        return document.with_row(replace(document.row(report.space), digest=space.digest, dim=space.dim))


def new_row(name: str, *, model: str, precision: str) -> SpaceRow:
    """Return a space to be created; raises InvalidRequest where its name is none."""
    return SpaceRow(name=check_space_name(name), model=model, precision=precision)


def alias_of(document: SpacesDocument, alias: str) -> str:
    """Return an alias that is there, or the default one for an empty name; raises UnknownSpace."""
    alias = alias or document.default_alias
    if alias not in document.aliases:
        raise UnknownSpace(f"there is no alias {alias!r}; there are {', '.join(sorted(document.aliases))}")
    return alias
