"""Named, versioned folders on disk: published by one rename, read without locks, never changed afterwards.

Layout: `<root>/<name>/<version>/` holds one immutable version, `<root>/<name>/aliases.json` says which version each
alias points to and pointed to before. Writers take a file lock; readers need none, since every change is one rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder_heads.errors import ArtifactInUse, ArtifactNotFound, HeadInvalid, HeadNameInvalid
from embedder_heads.manifest import read_manifest, write_manifest
from embedder_heads.names import CURRENT, Ref, check_alias, check_name

_ALIASES = "aliases.json"
_LOCK = ".lock"
_REVISION = ".revision"
_STAGING = ".staging-"
_SCHEMA = 1
_HISTORY = 32

Signature = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Aliases:
    """Where a name's aliases point.

    Attributes:
        last_version: the highest version ever published; numbers are not used twice.
        history: per alias, the versions that it pointed to, oldest first; the last one counts.
    """

    last_version: int
    history: Mapping[str, tuple[int, ...]]

    def target(self, alias: str) -> int:
        """Return the version that an alias points to, or 0."""
        return self.history[alias][-1] if alias in self.history else 0


class VersionedStore:
    """Versions and aliases of one kind of artifact under one root folder; safe for many processes on one machine."""

    def __init__(self, root: Path, *, not_found: type[ArtifactNotFound] = ArtifactNotFound) -> None:
        self.root = root
        self._not_found = not_found

    def names(self) -> list[str]:
        """List the published names from disk."""
        if not self.root.is_dir():
            return []
        with os.scandir(self.root) as entries:
            return sorted(e.name for e in entries if _is_name(e.name) and e.is_dir(follow_symlinks=False))

    def versions(self, name: str) -> list[int]:
        """List a name's versions from disk, oldest first."""
        folder = self.root / check_name(name)
        try:
            with os.scandir(folder) as entries:
                return sorted(int(e.name) for e in entries if e.name.isdecimal() and e.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def aliases(self, name: str) -> Aliases:
        """Read a name's aliases from disk; raises HeadInvalid when the file is damaged."""
        path = self.root / check_name(name) / _ALIASES
        if not path.exists():
            return Aliases(0, {})
        fields = read_manifest(path, schema=_SCHEMA, error=HeadInvalid)
        last_version = fields.integer("last_version")
        history: dict[str, tuple[int, ...]] = {}
        for alias in fields.objects("aliases"):
            history[alias.text("alias")] = tuple(int(version) for version in alias.numbers("versions"))
            alias.done()
        fields.done()
        return Aliases(last_version, {alias: versions for alias, versions in history.items() if versions})

    def folder(self, name: str, version: int) -> Path:
        """Return the folder of one version, whether it exists or not."""
        return self.root / check_name(name) / str(version)

    def version_of(self, ref: Ref) -> int:
        """Look a reference up on disk; raises the store's not-found error."""
        versions = self.versions(ref.name)
        version = ref.version or self.aliases(ref.name).target(ref.alias)
        if version in versions:
            return version
        if not versions:
            raise self._not_found(f"nothing is published as {ref.name!r}; there are {self.names() or 'no names'}")
        known = sorted(self.aliases(ref.name).history)
        raise self._not_found(f"{ref} does not exist; {ref.name} has the versions {versions} and the aliases {known}")

    def signature(self) -> Signature:
        """Return a value that differs after every change; one small read and a stat a name."""
        try:
            revision = (self.root / _REVISION).read_bytes()
        except FileNotFoundError:
            revision = b""
        if not self.root.is_dir():
            return (revision,)
        with os.scandir(self.root) as entries:
            stats = ((e.name, e.stat(follow_symlinks=False)) for e in entries if not e.name.startswith("."))
            return (revision, *sorted((name, stat.st_mtime_ns, stat.st_ino) for name, stat in stats))

    def publish(self, name: str, fill: Callable[[Path, int], None], *, make_current: bool = True) -> int:
        """Add a version in one step: readers see all of it or nothing.

        Args:
            name: the artifact.
            fill: writes the version's files into the folder that it is given, knowing its version.
            make_current: also point `current` at it.
        Returns:
            The new version.
        """
        check_name(name)
        with self._writing() as staging:
            aliases = self.aliases(name)
            version = max([aliases.last_version, *self.versions(name)]) + 1
            fill(staging, version)
            _sync_tree(staging)
            folder = self.folder(name, version)
            folder.parent.mkdir(exist_ok=True)
            staging.rename(folder)
            history = dict(aliases.history)
            if make_current:
                history[CURRENT] = (*history.get(CURRENT, ()), version)
            self._write_aliases(name, Aliases(version, history))
        return version

    def promote(self, name: str, version: int, alias: str) -> None:
        """Point an alias at a version that exists."""
        check_alias(alias)
        self.version_of(Ref(name, version, ""))
        with self._writing():
            aliases = self.aliases(name)
            if aliases.target(alias) != version:
                history = {**aliases.history, alias: (*aliases.history.get(alias, ()), version)}
                self._write_aliases(name, Aliases(aliases.last_version, history))

    def rollback(self, name: str, alias: str = CURRENT) -> int:
        """Point an alias back at the version before; returns that version.

        Raises:
            ArtifactNotFound: there is no earlier version that still exists.
        """
        with self._writing():
            aliases = self.aliases(name)
            existing = set(self.versions(name))
            earlier = [version for version in aliases.history.get(alias, ())[:-1] if version in existing]
            if not earlier:
                raise self._not_found(f"{name}@{alias} has no earlier version to go back to")
            self._write_aliases(name, Aliases(aliases.last_version, {**aliases.history, alias: tuple(earlier)}))
        return earlier[-1]

    def remove(self, name: str, version: int = 0) -> None:
        """Remove one version that no alias points to, or with version 0 the whole name."""
        if version:
            self.version_of(Ref(name, version, ""))
        elif not self.versions(name):
            raise self._not_found(f"nothing is published as {name!r}; there are {self.names() or 'no names'}")
        with self._writing() as staging:
            if not version:
                (self.root / name).rename(staging / name)
                return
            aliases = self.aliases(name)
            pointing = sorted(alias for alias in aliases.history if aliases.target(alias) == version)
            if pointing:
                raise ArtifactInUse(
                    f"{name}@{version} is what {', '.join(pointing)} points to; promote another version first"
                )
            self.folder(name, version).rename(staging / str(version))

    def compact(self, name: str) -> list[int]:
        """Remove every version of a name that no alias points to; returns these versions, rising.

        Raises:
            ArtifactNotFound: nothing is published under the name.
        """
        if not self.versions(name):
            raise self._not_found(f"nothing is published as {name!r}; there are {self.names() or 'no names'}")
        with self._writing() as staging:
            aliases = self.aliases(name)
            kept = {aliases.target(alias) for alias in aliases.history}
            gone = [version for version in sorted(self.versions(name)) if version not in kept]
            for version in gone:
                self.folder(name, version).rename(staging / str(version))
        return gone

    def _write_aliases(self, name: str, aliases: Aliases) -> None:
        listed = [
            {"alias": alias, "versions": list(versions[-_HISTORY:])}
            for alias, versions in sorted(aliases.history.items())
        ]
        path = self.root / name / _ALIASES
        document = {"schema": _SCHEMA, "last_version": aliases.last_version, "aliases": listed}
        _replace(path, lambda draft: write_manifest(draft, document))

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Path]:
        """Hold the writers' lock; yields a staging folder that is gone afterwards, and marks the change at the end."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for orphan in self.root.glob(f"{_STAGING}*"):  # left by a writer that died: nobody else holds the lock
                shutil.rmtree(orphan)
            staging = self.root / f"{_STAGING}{uuid.uuid4().hex}"
            staging.mkdir()
            try:
                yield staging
                _replace(self.root / _REVISION, lambda draft: draft.write_text(json.dumps(uuid.uuid4().hex)))
            finally:
                shutil.rmtree(staging, ignore_errors=True)


def _is_name(name: str) -> bool:
    try:
        return bool(check_name(name))
    except HeadNameInvalid:
        return False


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    draft = path.with_name(f".{path.name}.draft")
    write(draft)
    _sync(draft)
    draft.replace(path)
    _sync(path.parent)


def _sync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
