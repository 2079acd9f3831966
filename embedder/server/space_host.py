"""Holds the spaces of a service and follows their registry: loads what is added, moves aliases, closes what is retired.

Calls read one attribute and hold no lock. What can't be loaded is refused with its reason, and the table stays as it was.
"""

from __future__ import annotations

import gc
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog

from embedder.engine.contents import Contents
from embedder.errors import ConfigurationError, EmbedderError, SpaceConflict, SpacesInvalid
from embedder.server.bridge_serving import serve_bridges
from embedder.server.compose import every_key
from embedder.server.shadow_traffic import ShadowTraffic
from embedder.server.space_opening import OpenSpace, SharedParts, open_space
from embedder.server.spaces import ServedSpace, Spaces
from embedder.spaces.document import AliasMove, BridgeRow, SpaceRow, SpacesDocument
from embedder.spaces.registry import SpaceRegistry
from embedder.spaces.serving import ServingFile, ServingReport, SpaceReport, SpaceState
from embedder_heads import HeadError

_log = structlog.get_logger(__name__)

_INTERVAL_S = 0.1  # one stat of one file; a rollback waits for it
_CLOSE_PATIENCE_S = 60.0


class SpaceHost:
    """The spaces of one process. Thread-safe."""

    def __init__(self, parts: SharedParts, document: SpacesDocument) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            parts: what every space stands on.
            document: which spaces there are.
        """
        self._parts = parts
        self._registry = SpaceRegistry(parts.settings.data_dir)
        self._document = document
        self._signature = self._registry.signature()
        self._serving = ServingFile(parts.settings.data_dir)
        self._shadow = ShadowTraffic(parts.observer.tally)
        self._lock = threading.Lock()
        self._open: dict[str, OpenSpace] = {}
        self._awaited: set[str] = set()  # those that the loader has to do with
        self._refused: dict[str, tuple[SpaceRow, str]] = {}  # what was tried, and why it was refused
        self._why_not_followed = ""
        self._bridges: tuple[BridgeRow, ...] = ()
        self._current: Spaces | None = None
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._follow_registry, name="spaces", daemon=True),
            threading.Thread(target=self._do_work, name="space-loader", daemon=True),
        ]

    @property
    def current(self) -> Spaces:
        """The spaces at this moment; a call takes it once."""
        assert self._current is not None
        return self._current

    def start(self) -> OpenSpace:
        """Load what aliases point at, and begin to follow the registry; the other spaces are loaded meanwhile.

        Returns:
            The default space.
        Raises:
            ConfigurationError: a space that an alias points at can't be loaded.
        """
        document = self._document
        for name in dict.fromkeys([document.aliases[document.default_alias], *document.aliases.values()]):
            row = document.row(name)
            try:
                self._open[name] = self._load(row)
            except EmbedderError as error:
                raise ConfigurationError(f"space {name}: {error}") from error
            document = self._with_identity(document, row)
        self._document = document
        with self._lock:
            self._adopt(document)
        for thread in self._threads:
            thread.start()
        return self._open[document.aliases[document.default_alias]]

    def close(self) -> None:
        """Stop following, and close every space."""
        self._stop.set()
        self._work.put(None)
        for thread in self._threads:
            if thread.is_alive():
                thread.join()
        self._shadow.close()
        self._current = None
        for opened in self._open.values():
            opened.close(patience_s=0.0)
        self._serving.close()

    def shadow(self, space: ServedSpace, contents: Contents) -> None:
        """Compute a sample of a call's contents in the spaces that shadow this one; returns at once."""
        if shadows := self.current.shadows_of(space):
            self._shadow.offer(shadows, contents)

    def reports(self) -> Sequence[SpaceReport]:
        """Say of each space how it is, those that are loading or were refused among them."""
        with self._lock:
            return self._reports()

    def set_alias(self, alias: str, space: str, *, expected: str | None) -> str:
        """Point an alias at a space, in the registry and here, before this returns; returns where it pointed before."""
        before = ""

        def move(document: SpacesDocument) -> SpacesDocument:
            nonlocal before
            before = document.aliases.get(alias, "")
            moved = document.with_alias(AliasMove(alias, "", space, "", reason="SetAlias"), expected=expected)
            if space not in self._open:
                reason = self._why_refused(space) or "it is being loaded"
                raise SpaceConflict(f"space {space!r} is not ready, so no alias can point at it: {reason}")
            return moved

        document = self._registry.change(move, first=self._document)
        with self._lock:
            self._adopt(document)
        return before

    def _follow_registry(self) -> None:
        while not self._stop.wait(_INTERVAL_S):
            if self._registry.signature() != self._signature:
                self._read_again()

    def _read_again(self) -> None:
        self._signature = self._registry.signature()  # before the file is read: a later change is seen once more
        try:
            document = self._registry.read()
            if document is None:
                raise SpacesInvalid(f"{self._registry.path} is gone; what it said last goes on being served")
            with self._lock:
                self._adopt(document)
        except EmbedderError as error:
            _log.error("the registry of spaces can't be followed", error=str(error))
            with self._lock:
                self._why_not_followed = str(error)
                self._tell()

    def _adopt(self, document: SpacesDocument) -> None:
        """Serve what a document says, as far as its spaces are ready; the lock is held.

        Raises:
            SpacesInvalid: nothing that is ready is left to be the default space; the table stays as it was.
        """
        if document.revision < self._document.revision:
            return  # a later one was adopted while this one was read
        live = {row.name for row in document.live}
        if document.aliases != self._document.aliases:
            self._pick_up_heads()
        self._publish(document, live)
        if document.bridges != self._bridges:
            serve_bridges(self._parts.heads, document.bridges, self._parts.settings.bridges_path)
            self._bridges = document.bridges
        self._document, self._why_not_followed = document, ""
        # A space of the same name that was made anew is tried anew.
        made = {row.name: row.created for row in document.live}
        self._refused = {name: one for name, one in self._refused.items() if made.get(name) == one[0].created}
        for row in document.live:
            if row.name not in self._open and row.name not in self._awaited and row.name not in self._refused:
                self._awaited.add(row.name)
                self._work.put(partial(self._bring_in, row))
        gone = {row.name: row for row in document.spaces if row.erase}
        gone |= {name: SpaceRow(name, "") for name in self._open if name not in live and name not in gone}
        for name, row in gone.items():
            if name not in self._awaited:
                self._awaited.add(name)
                self._work.put(partial(self._take_out, row, self._open.pop(name, None)))
        self._tell()

    def _pick_up_heads(self) -> None:
        """See what was published for a space before an alias points at it: a call there finds its heads from the first on."""
        for source in (self._parts.heads, self._parts.fusions):
            try:
                source.refresh()
            except (HeadError, OSError) as error:
                _log.error("heads could not be read before an alias moved", error=str(error))

    def _publish(self, document: SpacesDocument, live: set[str]) -> None:
        ready = {name: opened.served for name, opened in self._open.items() if name in live and opened.served}
        before = self._current.aliases if self._current else {}
        aliases: dict[str, str] = {}
        for alias, target in document.aliases.items():
            # Until its target is ready an alias stays where it was.
            if (place := target if target in ready else before.get(alias, "")) in ready:
                aliases[alias] = place
        if document.default_alias not in aliases:
            wanted = document.aliases[document.default_alias]
            raise SpacesInvalid(
                f"the default alias {document.default_alias!r} would point at {wanted}, which is not ready: "
                f"{self._why_refused(wanted) or 'it was never loaded'}"
            )
        shadows = {row.name: row.shadow for row in document.live if row.shadow and row.name in ready}
        self._current = Spaces(
            list(ready.values()), aliases=aliases, shadows=shadows, default_alias=document.default_alias
        )

    def _do_work(self) -> None:
        while (work := self._work.get()) is not None and not self._stop.is_set():
            work()
            del work  # it holds a space

    def _load(self, row: SpaceRow) -> OpenSpace:
        """Load a space, and hold it against what the registry knows of it.

        Raises:
            EmbedderError: it can't be loaded, or is another space than it was.
        """
        opened = open_space(row, self._parts)
        assert opened.served is not None
        digest = opened.served.digest.hex()
        if row.digest and row.digest != digest:
            opened.close(patience_s=0.0)
            raise SpacesInvalid(
                f"{row.name} had the digest {row.digest[:16]}, and model={row.model!r} with precision={row.precision!r} gives "
                f"{digest[:16]} now: its weights, its libraries or this machine's numerics changed. Create a new version of it"
            )
        return opened

    def _bring_in(self, row: SpaceRow) -> None:
        """Load a space beside those that serve."""
        start = time.perf_counter()
        try:
            opened = self._load(row)
            with self._lock:
                is_wanted = row.created in [one.created for one in self._document.live if one.name == row.name]
                if is_wanted:
                    self._open[row.name] = opened
            if not is_wanted:
                opened.close(patience_s=0.0)
                raise SpacesInvalid(f"space {row.name} was taken back while it was loaded")
            document = self._with_identity(self._document, row)
            with self._lock:
                self._awaited.discard(row.name)
                self._adopt(max(document, self._document, key=lambda one: one.revision))
        except Exception as error:  # noqa: BLE001 - whatever happens, the others go on serving
            known = isinstance(error, EmbedderError)
            _log.error("space refused", space=row.name, reason=str(error), exc_info=not known)
            with self._lock:
                self._awaited.discard(row.name)
                reason = str(error) if known else "it could not be loaded; the service's log says more"
                self._refused[row.name] = (row, reason)
                self._adopt(self._document)
            return
        _log.info("space ready", space=row.name, seconds=round(time.perf_counter() - start, 2))

    def _with_identity(self, document: SpacesDocument, row: SpaceRow) -> SpacesDocument:
        """Note what an open space is, by which every later load is held; in the registry too, where there is one."""
        served = self._open[row.name].served
        assert served is not None

        def note(document: SpacesDocument) -> SpacesDocument:
            known = next((one for one in document.live if one.name == row.name), None)
            if known is None:
                return document
            return document.with_row(replace(known, digest=served.digest.hex(), dim=served.info.dim))

        if self._registry.signature() is not None and not row.digest:
            return self._registry.change(note)
        return note(document)

    def _take_out(self, row: SpaceRow, opened: OpenSpace | None) -> None:
        """Close a retired space, and erase its vectors where that is asked for."""
        try:
            if opened is not None:
                opened.close(patience_s=_CLOSE_PATIENCE_S)
                del opened
                gc.collect()  # a model's objects know each other; what was there at the start is not walked through
                _log.info("space retired", space=row.name)
            if row.erase:
                self._erase(row)
        except Exception as error:  # noqa: BLE001 - the next one may be
            _log.error("a retired space could not be taken out", space=row.name, error=str(error))
        with self._lock:
            self._awaited.discard(row.name)
            self._tell()

    def _erase(self, row: SpaceRow) -> None:
        """Erase a space's vectors from every tier; once it was done the registry says so."""
        erased = 0
        if row.digest:
            parts = self._parts
            for key in every_key(parts.settings, bytes.fromhex(row.digest), row.dim, parts.fusions):
                if parts.shared is not None:
                    parts.shared.erase_space(key)
                erased += parts.cache.erase_space(key)
        self._registry.change(lambda document: document.with_row(replace(row, erase=False)))
        _log.info("vectors of a retired space erased", space=row.name, entries=erased)

    def _why_refused(self, name: str) -> str:
        return self._refused[name][1] if name in self._refused else ""

    def _reports(self) -> list[SpaceReport]:
        document, current = self._document, self.current
        aliased = set(current.aliases.values())
        reports = []
        for row in document.live:
            opened = self._open.get(row.name)
            if opened is None or opened.served is None:
                reason = self._why_refused(row.name)
                state = SpaceState.REFUSED if reason else SpaceState.LOADING
                reports.append(SpaceReport(row.name, state, row.digest, reason=reason))
                continue
            state = SpaceState.SERVING if row.name in aliased else SpaceState.SHADOW if row.shadow else SpaceState.READY
            info = opened.served.info
            reports.append(SpaceReport(row.name, state, info.space_digest.hex(), info.dim, info.summary))
        closing = [row for row in document.spaces if row.retired and row.name in self._awaited]
        return reports + [SpaceReport(row.name, SpaceState.RETIRED, row.digest) for row in closing]

    def _tell(self) -> None:
        """Say what is served now, for tools; the lock is held."""
        if self._current is None:
            return
        settings = self._parts.settings
        self._serving.write(
            ServingReport(
                revision=self._document.revision,
                model=settings.model,
                space=settings.space,
                precision=settings.precision,
                spaces=tuple(self._reports()),
                aliases=dict(self._current.aliases),
                refused=self._why_not_followed,
            )
        )
