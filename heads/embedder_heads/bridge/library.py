"""The bridges on disk: published by one rename, named and versioned like heads."""

from __future__ import annotations

from pathlib import Path

from embedder_heads.bridge.bridge_file import Bridge, load_bridge, save_bridge
from embedder_heads.errors import ArtifactNotFound, HeadInvalid
from embedder_heads.names import parse_ref
from embedder_heads.store import VersionedStore


class BridgeLibrary:
    """Versions of bridges under one folder; safe for many processes."""

    def __init__(self, root: Path) -> None:
        self._store = VersionedStore(root, not_found=ArtifactNotFound)

    def publish(self, bridge: Bridge) -> Bridge:
        """Add a bridge as the next version of its name; returns it as published."""
        published: list[Bridge] = []

        def fill(folder: Path, version: int) -> None:
            published.append(save_bridge(bridge, folder, name=bridge.manifest.name, version=version))

        self._store.publish(bridge.manifest.name, fill)
        return published[0]

    def load(self, ref: str) -> Bridge:
        """Load the bridge of a reference: `name` or `name@version`.

        Raises:
            HeadNameInvalid, ArtifactNotFound, HeadInvalid: there is no such bridge, or its files are not right.
        """
        parsed = parse_ref(ref)
        version = self._store.version_of(parsed)
        bridge = load_bridge(self._store.folder(parsed.name, version))
        said = (bridge.manifest.name, bridge.manifest.version)
        if said != (parsed.name, version):
            raise HeadInvalid(f"{parsed.name}@{version} holds a bridge that calls itself {said[0]}@{said[1]}")
        return bridge
