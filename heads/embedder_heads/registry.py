"""The heads on disk: publishing, aliases, and loading by reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedder_heads.errors import HeadError, HeadInvalid, HeadNotFound, HeadSpaceMismatch
from embedder_heads.head_file import Head, HeadManifest, load_head, save_head
from embedder_heads.names import CURRENT, check_alias, parse_ref
from embedder_heads.store import Signature, VersionedStore


@dataclass(frozen=True, slots=True)
class ListedHead:
    """One version in the registry.

    Attributes:
        name: the head.
        version: the version.
        aliases: aliases that point to it.
        manifest: what it is; None when it is refused.
        refused: why it can't be loaded; empty when it can.
    """

    name: str
    version: int
    aliases: tuple[str, ...]
    manifest: HeadManifest | None
    refused: str


class HeadRegistry:
    """Versions and aliases of heads under one folder; a publish is one rename, safe for many processes."""

    def __init__(self, root: Path) -> None:
        self._store = VersionedStore(root, not_found=HeadNotFound)

    @property
    def root(self) -> Path:
        """The folder that holds every head."""
        return self._store.root

    def publish(self, head: Head, *, name: str = "", alias: str = "", make_current: bool = True) -> Head:
        """Add a head as the next version of its name.

        Args:
            head: a checked head.
            name: the name to publish under; the head's own when empty.
            alias: an alias to point at the new version as well.
            make_current: whether the bare name now means this version.
        Returns:
            The head as published, with its version.
        """
        published: list[Head] = []
        name = name or head.manifest.name
        if alias:
            check_alias(alias)

        def fill(folder: Path, version: int) -> None:
            published.append(save_head(head, folder, name=name, version=version))

        version = self._store.publish(name, fill, make_current=make_current)
        if alias:
            self._store.promote(name, version, alias)
        return published[0]

    def resolve(self, ref: str, space_digest: bytes | None = None) -> Head:
        """Load the head of a reference from disk.

        Args:
            ref: `name`, `name@version` or `name@alias`.
            space_digest: the space that it must be of, 32 bytes; None takes any.
        Raises:
            HeadNameInvalid, HeadNotFound, HeadInvalid: there is no such head, or its files are not right.
            HeadSpaceMismatch: it is of another space.
        """
        parsed = parse_ref(ref)
        head = self.load(parsed.name, self._store.version_of(parsed))
        if space_digest is not None:
            check_space(head.manifest, space_digest)
        return head

    def load(self, name: str, version: int) -> Head:
        """Load one version; raises HeadInvalid when its files are not right or say another name or version."""
        folder = self._store.folder(name, version)
        head = load_head(folder)
        if (head.manifest.name, head.manifest.version) != (name, version):
            raise HeadInvalid(
                f"{name}@{version} holds a head that calls itself {head.manifest.name}@{head.manifest.version}"
            )
        return head

    def promote(self, ref: str, alias: str) -> int:
        """Point an alias at the version of a reference, after loading it; returns the version."""
        head = self.resolve(ref)
        self._store.promote(head.manifest.name, head.manifest.version, alias)
        return head.manifest.version

    def rollback(self, ref: str) -> int:
        """Point `name` (its `current`) or `name@alias` back at the version before; returns that version."""
        parsed = parse_ref(ref)
        if parsed.version:
            raise HeadNotFound(f"{ref} is a version; only an alias is rolled back, such as {parsed.name}@{CURRENT}")
        return self._store.rollback(parsed.name, parsed.alias)

    def remove(self, ref: str) -> None:
        """Remove one version (`name@3`) that no alias points to, or every version of `name`."""
        parsed = parse_ref(ref)
        if parsed.alias and "@" in ref:
            raise HeadNotFound(
                f"{ref} is an alias; remove a version, such as {parsed.name}@1, or the whole of {parsed.name}"
            )
        self._store.remove(parsed.name, parsed.version)

    def listing(self) -> list[ListedHead]:
        """List every version of every name, with the reason of each that is refused."""
        listed = []
        for name in self._store.names():
            pointing = self.pointing(name)
            for version in self._store.versions(name):
                aliases = tuple(alias for alias, history in sorted(pointing.items()) if history[-1] == version)
                manifest, refused = None, ""
                try:
                    manifest = self.load(name, version).manifest
                except HeadError as error:
                    refused = str(error)
                listed.append(ListedHead(name, version, aliases, manifest, refused))
        return listed

    def names(self) -> list[str]:
        """List the published names."""
        return self._store.names()

    def versions(self, name: str) -> list[int]:
        """List a name's versions, oldest first."""
        return self._store.versions(name)

    def pointing(self, name: str) -> Mapping[str, tuple[int, ...]]:
        """Return, per alias, the versions that it pointed to, the one that counts last."""
        return self._store.aliases(name).history

    def signature(self) -> Signature:
        """Return a value that differs after every change; cheap enough for twice a second."""
        return self._store.signature()


def check_space(manifest: HeadManifest, space_digest: bytes) -> None:
    """Check that a head is of a space; raises HeadSpaceMismatch."""
    if manifest.space_digest != space_digest.hex():
        ref = f"{manifest.name}@{manifest.version}"
        raise HeadSpaceMismatch(ref, wants=manifest.space_digest, has=space_digest.hex())
